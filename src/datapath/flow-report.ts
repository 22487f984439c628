// What the flow table says of live flows: a list for people to read, and how many flows keep a task that is to stop. Each call
// looks through the whole table, in the agent's main thread: only for a person's request, or while a task drains.
import { formatIpv4, type Ipv4 } from "../lib/ip.ts";
import { Protocol } from "../packet/ipv4.ts";
import { Ride } from "./express-marks.ts";
import { FlowState } from "./flow-entries.ts";
import { isClosing } from "./flow-state.ts";
import type { FlowTable } from "./flow-table.ts";

type Lane = "both" | "client" | "server" | null;

export interface FlowRow {
  protocol: "tcp" | "udp" | "icmp" | number;
  /** ADDRESS:PORT, without the port where the protocol has none. */
  client: string;
  /** Where the client sends to: a VIP or an endpoint. */
  destination: string;
  /** Where it goes. */
  server: string;
  /** The VIP that it was balanced from. */
  vip: string | null;
  /** The VTEPs that client and server are behind; null: this node. */
  clientVtep: string | null;
  serverVtep: string | null;
  state: string;
  /** The ends whose packets go in the express lane; null: neither. */
  lane: Lane;
  ageSeconds: number;
  idleSeconds: number;
  /** Both ways. */
  packets: number;
  bytes: number;
}

/** The flows of the largest table. */
const MOST_FLOWS = 2 ** 22;

const STATE_NAMES = Object.entries(FlowState)
  .sort(([, a], [, b]) => a - b)
  .map(([name]) => name.replace(/(?!^)[A-Z]/g, (letter) => `-${letter}`).toLowerCase());

/** Indexed by the bits of Ride.Both. */
const LANES: readonly Lane[] = [null, "client", "server", "both"];

/** A flow without an end of its own, such as one of UDP, counts as live until it is silent for this time. */
const SILENT_SECONDS = 3;

/** The newest flows first, at most `limit`. `seconds` is the time on the flows' clock. */
export function listFlows(flows: FlowTable, seconds: number, limit: number): FlowRow[] {
  const places = new Float64Array(flows.highWater);
  let count = 0;
  for (let flow = 0; flow < places.length; flow++) {
    const entry = 2 * flow;
    // Numbers in a typed array are sorted without a call for every two of them.
    if (flows.stateOf(entry) !== FlowState.Free) places[count++] = flows.createdOf(entry) * MOST_FLOWS + flow;
  }
  const newest = places.subarray(0, count).sort().subarray(-limit).reverse();
  return Array.from(newest, (place) => rowOf(flows, 2 * (place % MOST_FLOWS), seconds));
}

/** How many flows go to one of these addresses, and are neither ending nor silent. `seconds` is the flows' clock. */
export function countLiveFlows(flows: FlowTable, servers: readonly Ipv4[], seconds: number): number {
  let count = 0;
  for (let flow = 0; flow < flows.highWater; flow++) {
    const entry = 2 * flow;
    const state = flows.stateOf(entry);
    if (state === FlowState.Free || isClosing(state) || !servers.includes(flows.sourceOf(entry + 1))) continue;
    const isSilent = seconds - flows.lastSeenOf(entry) > SILENT_SECONDS;
    if (flows.protocolOf(entry) === Protocol.Tcp || !isSilent) count++;
  }
  return count;
}

function rowOf(flows: FlowTable, entry: number, seconds: number): FlowRow {
  const protocol = flows.protocolOf(entry);
  const withPort = (ip: number, port: number): string =>
    protocol === Protocol.Tcp || protocol === Protocol.Udp ? `${formatIpv4(ip)}:${port}` : formatIpv4(ip);
  const ports = flows.portsOf(entry);
  const vip = flows.vipOf(entry);
  return {
    protocol: protocolName(protocol),
    client: withPort(flows.sourceOf(entry), ports >>> 16),
    destination: withPort(flows.destinationOf(entry), ports & 0xffff),
    server: withPort(flows.sourceOf(entry + 1), flows.portsOf(entry + 1) >>> 16),
    vip: vip === 0 ? null : formatIpv4(vip),
    clientVtep: vtepOf(flows.fromOf(entry)),
    serverVtep: vtepOf(flows.toOf(entry)),
    state: STATE_NAMES[flows.stateOf(entry)]!,
    lane: LANES[flows.rideOf(entry) & Ride.Both]!,
    ageSeconds: Math.max(0, Math.floor(seconds - flows.createdOf(entry))),
    idleSeconds: Math.max(0, Math.floor(seconds - flows.lastSeenOf(entry))),
    packets: flows.packetsOf(entry) + flows.packetsOf(entry + 1),
    bytes: flows.bytesOf(entry) + flows.bytesOf(entry + 1),
  };
}

function protocolName(protocol: number): FlowRow["protocol"] {
  if (protocol === Protocol.Tcp) return "tcp";
  if (protocol === Protocol.Udp) return "udp";
  return protocol === Protocol.Icmp ? "icmp" : protocol;
}

function vtepOf(vtep: number): string | null {
  return vtep === 0 ? null : formatIpv4(vtep);
}
