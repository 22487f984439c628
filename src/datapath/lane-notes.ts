// What two agents say to each other about a flow whose packets go one way, so that it may enter the express lane (express-flows.ts): no packet
// of the flow tells the sender's agent that the peer's lane takes it. Both notes are in a reserved byte of the VXLAN header
// (packet/vxlan.ts), which sends a frame past every lane to the agent.
//
//   the sender's agent -> AsksLane, on a packet of the flow now and then, which is carried as ever: an older agent carries it too
//   the receiver's agent -> TakesLane, once its entry is in the lane, in a frame of its own: the head of an empty reply, which no
//   container gets to see
//
// A note may be lost: a later packet asks again.
import { ETHERNET_BYTES, EtherType, writeEthernet } from "../packet/ethernet.ts";
import * as ip from "../packet/ipv4.ts";
import type { PacketMemory } from "../packet/memory.ts";
import * as udp from "../packet/udp.ts";
import { Note, VXLAN_BYTES, writeNote, writeVxlan } from "../packet/vxlan.ts";
import type { Egress } from "./egress.ts";
import type { FlowTable } from "./flow-table.ts";
import { OwnPackets } from "./own-packets.ts";
import type { Tables } from "./tables.ts";

const IP_AT = VXLAN_BYTES + ETHERNET_BYTES;
const FRAME_BYTES = IP_AT + ip.IPV4_BYTES + udp.UDP_BYTES;

interface LaneNotesOptions {
  memory: PacketMemory;
  flows: FlowTable;
  tables: Tables;
  egress: Pick<Egress, "datagram" | "flush">;
}

export class LaneNotes {
  readonly #u8: Uint8Array;
  readonly #flows: FlowTable;
  readonly #tables: Tables;
  readonly #egress: LaneNotesOptions["egress"];
  readonly #slots: OwnPackets;

  constructor({ memory, flows, tables, egress }: LaneNotesOptions) {
    this.#u8 = memory.u8;
    this.#flows = flows;
    this.#tables = tables;
    this.#egress = egress;
    this.#slots = new OwnPackets(memory, FRAME_BYTES, () => egress.flush());
  }

  /** Tells the peer that this entry's packets come from: this node's lane takes them. Hot path: must not allocate. */
  tellTakes(entry: number): void {
    const flows = this.#flows;
    const peer = this.#tables.peers.get(flows.fromOf(entry));
    if (peer === undefined) return;
    const u8 = this.#u8;
    const at = this.#slots.take();
    const source = flows.destinationOf(entry);
    const destination = flows.sourceOf(entry);
    writeVxlan(u8, at, flows.zoneOf(entry));
    writeNote(u8, at, Note.TakesLane);
    writeEthernet(u8, at + VXLAN_BYTES, destination, source, EtherType.Ipv4);
    ip.writeIpv4(u8, at + IP_AT, source, destination, ip.Protocol.Udp, udp.UDP_BYTES);
    const ports = flows.portsOf(entry);
    udp.writeUdp(u8, at + IP_AT + ip.IPV4_BYTES, ports & 0xffff, ports >>> 16, 0); // no checksum
    this.#egress.datagram(at, FRAME_BYTES, peer);
  }
}
