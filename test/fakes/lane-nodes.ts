// Nodes whose containers send by the express lane where it takes the packet, and by the agents else: who carried what, packet by packet.
import { ipv4 } from "../../src/lib/ip.ts";
import { frame } from "./frames.ts";
import { type Described, describe, type Fields, ipPacket } from "./ip-packets.ts";
import type { Cluster, FakeNode, FakeNodes, FakeNodesOptions } from "./nodes.ts";
import { isSealedDatagram } from "./sealed-nodes.ts";
import { brief, CLUSTER, cluster } from "./two-nodes.ts";

const VNI_AT = 4;
const MANAGEMENT_VNI = 1;
/** A reserved byte of the VXLAN header, in which agents leave notes for each other. No lane carries a frame with one. */
const NOTE_AT = 7;
const TAKES_LANE = 2;
const FRAME_BYTES = 22;

export interface Trip {
  /** Who carried it at each node: "agent", "lane", "lane agent" and so on. */
  by: string;
  /** What arrived at containers. */
  arrived: Described[];
  /** The same, as "FROM:PORT > TO:PORT". */
  out: string[];
}

export interface LaneNodes {
  readonly fake: FakeNodes;
  readonly nodes: readonly FakeNode[];
  /** Sends from a container of the node. */
  send(from: number, fields: Fields): Trip;
  /** Sends bytes from a container of the node. */
  sendBytes(from: number, packet: Uint8Array): Trip;
}

export async function laneNodes(options: FakeNodesOptions = {}, rows: Cluster = CLUSTER): Promise<LaneNodes> {
  const fake = await cluster({ ...options, lanes: true }, rows);
  const { nodes, wire } = fake;
  let by: string[] = [];
  let byLane: Uint8Array[] = [];
  const nodeAt = (vtep: number): FakeNode | undefined => nodes.find((node) => ipv4(node.vtep) === vtep);
  wire.filter = (datagram) => {
    const { payload, from, to } = datagram;
    if (isSealedDatagram(datagram)) {
      by.push("agent");
      return [datagram];
    }
    const vni = new DataView(payload.buffer, payload.byteOffset).getUint32(VNI_AT) >>> 8;
    const note = payload[NOTE_AT]!;
    if (vni === MANAGEMENT_VNI || note === TAKES_LANE) return [datagram];
    const lane = note === 0 ? nodeAt(to)?.lane : undefined;
    const carried = lane?.carry(vni, from, payload.slice(FRAME_BYTES));
    by.push(carried === undefined ? "agent" : "lane");
    if (carried === undefined) return [datagram];
    byLane.push(carried.packet);
    return [];
  };
  const sendBytes = (from: number, packet: Uint8Array): Trip => {
    by = [];
    byLane = [];
    const node = nodes[from]!;
    const carried = node.lane!.carry(0, 0, packet);
    by.push(carried === undefined ? "agent" : "lane");
    if (carried === undefined) node.device.inject(packet);
    else if (carried.to === 0) byLane.push(carried.packet);
    else {
      const payload = frame(carried.packet, { vni: carried.vni });
      wire.carry({ from: ipv4(node.vtep), fromPort: 50_000, to: carried.to, toPort: 4789, tos: 0, payload });
    }
    fake.settle();
    const arrived = [...byLane, ...nodes.flatMap((each) => each.written().map(({ bytes }) => bytes))].map(describe);
    return { by: by.join(" "), arrived, out: arrived.map(brief) };
  };
  return { fake, nodes, sendBytes, send: (from, fields) => sendBytes(from, ipPacket(fields)) };
}
