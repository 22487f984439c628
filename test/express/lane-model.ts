// The lane's rules in plain words: what becomes of a frame. It shares nothing with the programs but the names of the reasons.
import type { LaneEntry } from "../../src/express/entry.ts";
import type { PassedOn } from "../../src/express/layout.ts";
import { onesSum } from "../fakes/ip-packets.ts";

/** Undefined: the frame is none of the lane's, and not counted. */
export type Verdict = { passedOn: PassedOn | undefined } | { sent: Uint8Array; by: LaneEntry };

/** The lane's state, beside its entries. */
export interface LaneState {
  isOn: boolean;
  isLeased: boolean;
  /** Entries whose ground was lost. */
  lost: ReadonlySet<LaneEntry>;
}

const word = (bytes: Uint8Array, at: number): number => (bytes[at]! << 8) | bytes[at + 1]!;
const int32 = (bytes: Uint8Array, at: number): number => (word(bytes, at) << 16) | word(bytes, at + 2) | 0;
const no = (passedOn: PassedOn | undefined): Verdict => ({ passedOn });

export function modelContainer(
  frame: Uint8Array,
  gsoBytes: number,
  ifindex: number,
  entries: readonly LaneEntry[],
  state: LaneState,
): Verdict {
  if (word(frame, 12) !== 0x0800) return no("NotIpv4");
  if (frame.subarray(0, 6).some((byte) => byte !== 0)) return no("OtherMac"); // the loopback device has this MAC
  const packet = frame.subarray(14);
  const wrong = faultOf(packet, gsoBytes);
  if (wrong !== undefined) return no(wrong);
  const entry = entries.find((one) => one.from === 0 && one.origin === ifindex && isOf(packet, one));
  const refused = refusalOf(entry, state);
  if (refused !== undefined) return no(refused);
  const unfit = unfitness(packet, gsoBytes, entry!.mtu);
  if (unfit !== undefined) return no(unfit);
  return { sent: rewritten(packet, entry!), by: entry! };
}

export function modelUnderlay(
  frame: Uint8Array,
  gsoBytes: number,
  port: number,
  entries: readonly LaneEntry[],
  state: LaneState,
): Verdict {
  const ip = frame.subarray(14);
  if (frame.length < 42 || word(frame, 12) !== 0x0800 || ip[0] !== 0x45 || ip[9] !== 17) return no(undefined);
  if ((word(ip, 6) & 0x3fff) !== 0 || word(ip, 22) !== port) return no(undefined);
  if (frame.subarray(0, 6).some((byte) => byte !== 0)) return no("OtherMac");
  if (frame.length < 84) return no("Length");
  if (onesSum(ip.subarray(0, 20)) !== 0xffff) return no("HeaderChecksum");
  if (word(ip, 2) !== ip.length || word(ip, 24) + 20 !== word(ip, 2)) return no("Length");
  const vxlan = ip.subarray(28);
  if (int32(vxlan, 0) !== 0x0800_0000) return no("VxlanFlags");
  if (word(vxlan, 20) !== 0x0800) return no("NotIpv4");
  const packet = vxlan.subarray(22);
  const wrong = faultOf(packet, gsoBytes);
  if (wrong !== undefined) return no(wrong);
  const [outer, inner] = [ip[1]! & 3, packet[1]! & 3];
  if (outer === 3 || (outer === 1 && inner === 2)) return no("Congestion");
  const entry = entries.find((one) => one.from !== 0 && one.origin << 8 === int32(vxlan, 4) && isOf(packet, one));
  const refused = refusalOf(entry, state);
  if (refused !== undefined) return no(refused);
  if (int32(ip, 12) !== entry!.from || int32(ip, 16) !== entry!.vtep) return no("OtherVtep");
  const pseudo = onesSum(ip.subarray(12, 20), 17 + word(ip, 24));
  if (gsoBytes === 0 && word(ip, 26) !== 0 && word(ip, 26) === pseudo) return no("UnfinishedOuter");
  const unfit = unfitness(packet, gsoBytes, entry!.mtu);
  if (unfit !== undefined) return no(unfit);
  return { sent: rewritten(packet, entry!), by: entry! };
}

/** What keeps an inner packet from the lane. */
function faultOf(packet: Uint8Array, gsoBytes: number): PassedOn | undefined {
  if (packet.length < 28) return "Length";
  if (packet[0] !== 0x45) return "Options";
  if ((word(packet, 6) & 0x3fff) !== 0) return "Fragment";
  if (packet[8]! <= 1) return "Ttl";
  if (word(packet, 2) !== packet.length) return "Length";
  if (onesSum(packet.subarray(0, 20)) !== 0xffff) return "HeaderChecksum";
  if (packet[9] === 17) {
    if (word(packet, 24) !== packet.length - 20) return "Length";
    if (word(packet, 26) === 0) return "NoUdpChecksum";
    return gsoBytes === 0 ? undefined : "UdpSuperPacket";
  }
  if (packet[9] !== 6) return "Protocol";
  if (packet.length < 40) return "Length";
  const flags = packet[33]!;
  if ((flags & 0x10) === 0 || (flags & 0x27) !== 0) return "TcpFlags";
  const header = (packet[32]! >> 4) * 4;
  return header < 20 || 20 + header > packet.length ? "Length" : undefined;
}

function isOf(packet: Uint8Array, entry: LaneEntry): boolean {
  return (
    packet[9] === entry.protocol &&
    int32(packet, 12) === entry.source &&
    int32(packet, 16) === entry.destination &&
    int32(packet, 20) === entry.ports
  );
}

function refusalOf(entry: LaneEntry | undefined, { isOn, isLeased, lost }: LaneState): PassedOn | undefined {
  if (entry === undefined) return "NoEntry";
  if (!isOn) return "Off";
  if (!isLeased) return "LeaseOver";
  return lost.has(entry) ? "LostGround" : undefined;
}

function unfitness(packet: Uint8Array, gsoBytes: number, mtu: number): PassedOn | undefined {
  if (gsoBytes === 0) return packet.length > mtu ? "TooBig" : undefined;
  if (gsoBytes < 8) return "Length";
  return 20 + (packet[32]! >> 4) * 4 + gsoBytes > mtu ? "TooBig" : undefined;
}

/** The packet as its receiver gets it. A transport checksum that was wrong stays as wrong as it was. */
function rewritten(packet: Uint8Array, entry: LaneEntry): Uint8Array {
  const after = packet.slice();
  const view = new DataView(after.buffer);
  const field = after[9] === 6 ? 36 : 26;
  const error = transportSum(packet);
  view.setInt32(12, entry.newSource);
  view.setInt32(16, entry.newDestination);
  view.setInt32(20, entry.newPorts);
  view.setUint16(10, 0);
  view.setUint16(10, ~onesSum(after.subarray(0, 20)) & 0xffff);
  view.setUint16(field, 0);
  // Sums are equal modulo 0xffff: what the field was off by, it is off by again.
  const value = onesSum(Uint8Array.of(error >> 8, error & 255), ~transportSum(after) & 0xffff);
  view.setUint16(field, value === 0 && after[9] === 17 ? 0xffff : value);
  return after;
}

function transportSum(packet: Uint8Array): number {
  return onesSum(packet.subarray(20), onesSum(packet.subarray(12, 20), packet[9]! + packet.length - 20));
}
