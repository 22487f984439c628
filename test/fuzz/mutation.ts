// Packets that are nearly right: golden ones with bytes changed, cut or added, and their checksums mended or not, so
// that what is wrong is met by the code behind the checksums too.
import fc from "fast-check";
import { onesSum } from "../fakes/ip-packets.ts";

export type Change =
  | { kind: "byte"; at: number; value: number }
  | { kind: "word"; at: number; value: number }
  | { kind: "cut"; to: number }
  | { kind: "add"; bytes: number };

export interface Mutation {
  readonly changes: readonly Change[];
  readonly mends: boolean;
}

/** Most changes hit headers: positions near the start are likelier. */
const at = fc.oneof({ arbitrary: fc.nat(90), weight: 4 }, { arbitrary: fc.nat(1500), weight: 1 });
const word = fc.oneof(fc.constantFrom(0, 1, 7, 8, 0x2000, 0x3fff, 0x7fff, 0x8000, 0xfffe, 0xffff), fc.nat(0xffff));

const change: fc.Arbitrary<Change> = fc.oneof(
  fc.record({ kind: fc.constant("byte" as const), at, value: fc.nat(255) }),
  fc.record({ kind: fc.constant("word" as const), at, value: word }),
  fc.record({ kind: fc.constant("cut" as const), to: at }),
  fc.record({ kind: fc.constant("add" as const), bytes: fc.nat(40) }),
);

export const mutation: fc.Arbitrary<Mutation> = fc.record({
  changes: fc.array(change, { maxLength: 4 }),
  mends: fc.boolean(),
});

/** A changed copy. `ipAt` is where its IP packet begins. */
export function mutated(packet: Uint8Array, ipAt: number, { changes, mends }: Mutation): Uint8Array {
  let bytes: Uint8Array = packet.slice();
  for (const change of changes) bytes = changed(bytes, change);
  if (mends) mend(bytes.subarray(ipAt));
  return bytes;
}

function changed(bytes: Uint8Array, change: Change): Uint8Array {
  if (change.kind === "cut") return bytes.slice(0, change.to);
  if (change.kind === "add") {
    const longer = new Uint8Array(bytes.length + change.bytes).fill(0xa5);
    longer.set(bytes);
    return longer;
  }
  if (change.at < bytes.length) bytes[change.at] = change.kind === "byte" ? change.value : change.value >> 8;
  if (change.kind === "word" && change.at + 1 < bytes.length) bytes[change.at + 1] = change.value & 255;
  return bytes;
}

/** Makes the checksums of IP header and transport right, as far as the packet has them. */
function mend(packet: Uint8Array): void {
  const header = (packet[0]! & 15) * 4;
  if (packet.length < 20 || header < 20 || header > packet.length) return;
  const view = new DataView(packet.buffer, packet.byteOffset, packet.byteLength);
  view.setUint16(10, 0);
  view.setUint16(10, ~onesSum(packet.subarray(0, header)) & 0xffff);
  const length = Math.min(packet.length, view.getUint16(2));
  const field = header + ({ 1: 2, 6: 16, 17: 6 }[packet[9]!] ?? packet.length);
  if (field + 2 > length) return;
  const pseudo = packet[9] === 1 ? 0 : onesSum(packet.subarray(12, 20), packet[9]! + length - header);
  view.setUint16(field, 0);
  view.setUint16(field, ~onesSum(packet.subarray(header, length), pseudo) & 0xffff);
}
