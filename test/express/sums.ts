// Frames compared with their checksums taken for what they mean: 0 and 0xffff are the same sum.
import { onesSum } from "../fakes/ip-packets.ts";

/** The packet with each checksum of `fields` that is 0xffff written as 0. */
export function canonical(packet: Uint8Array, fields: readonly number[]): string {
  const copy = Uint8Array.from(packet);
  for (const at of fields) if (copy[at] === 0xff && copy[at + 1] === 0xff) copy.fill(0, at, at + 2);
  return Buffer.from(copy).toString("hex");
}

/** Whether the checksum of the IPv4 header at `at` is right. */
export function isHeaderRight(frame: Uint8Array, at: number): boolean {
  return onesSum(frame.subarray(at, at + 20)) === 0xffff;
}

/** Whether the UDP checksum of the IPv4 packet at `at`, which has no options, is right or absent. */
export function isUdpRight(frame: Uint8Array, at: number): boolean {
  const packet = frame.subarray(at);
  if (packet[26] === 0 && packet[27] === 0) return true;
  return onesSum(packet.subarray(20), onesSum(packet.subarray(12, 20), 17 + packet.length - 20)) === 0xffff;
}
