// The MSS option of a SYN made smaller, so that no segment is larger than the path (RFC 9293 section 3.7.1).
import { get16, set16 } from "../lib/bytes.ts";
import { deltaOf, updateChecksum } from "./checksum.ts";
import { IPV4_BYTES } from "./ipv4.ts";
import type { Packet } from "./packet.ts";
import { CHECKSUM_AT, mss, mssAt, TCP_BYTES } from "./tcp.ts";

/** Of a SYN or SYN-ACK toward a path of `mtu`: an option that is not there stays so, and means 536. */
export function clampMss(packet: Packet, mtu: number): void {
  const { u8, transport } = packet;
  const at = mssAt(u8, transport);
  if (at === 0) return;
  const before = mss(u8, at);
  const after = mtu - IPV4_BYTES - TCP_BYTES;
  if (before <= after) return;
  set16(u8, at, after);
  if (packet.partialChecksum) return; // made over whatever is there when the packet is sent
  // An option may begin at an odd place: then its bytes are in two words, each in the other half.
  const isOdd = ((at - transport) & 1) === 1;
  const delta = isOdd ? deltaOf(swapBytes(before), swapBytes(after)) : deltaOf(before, after);
  const field = transport + CHECKSUM_AT;
  set16(u8, field, updateChecksum(get16(u8, field), delta));
}

function swapBytes(word: number): number {
  return ((word & 0xff) << 8) | (word >>> 8);
}
