// The virtio-net header that a TUN puts before a packet (virtio 1.2 section 5.1.6, host byte order), and the check
// that a message is one a kernel can take: it refuses some broken ones and silently corrupts others.
import { get16 } from "../lib/bytes.ts";
import { headerLength, IPV4_BYTES, PROTOCOL_AT, Protocol, totalLength } from "./ipv4.ts";
import type { PacketMemory } from "./memory.ts";
import { Flag, flags as tcpFlags, headerLength as tcpHeaderLength } from "./tcp.ts";
import { UDP_BYTES } from "./udp.ts";

export const VIRTIO_NET_BYTES = 10;
export const FLAGS_AT = 0;
export const GSO_TYPE_AT = 1;
const HEADER_LENGTH_AT = 2;
export const GSO_SIZE_AT = 4;
export const CHECKSUM_START_AT = 6;
export const CHECKSUM_OFFSET_AT = 8;

export const NEEDS_CHECKSUM = 1;
/** VIRTIO_NET_HDR_F_DATA_VALID: the checksum was found right. */
export const CHECKSUM_IS_RIGHT = 2;
/** A modifier of Gso: some segment carries CWR. */
export const GSO_ECN = 0x80;

/** How the kernel is to cut a packet, or has joined it: VIRTIO_NET_HDR_GSO_*. */
export const Gso = { None: 0, Tcp4: 1, Udp4: 5 } as const;
export type Gso = (typeof Gso)[keyof typeof Gso];

/** The kernel's own lower bound for segments (TCP_MIN_GSO_SIZE). */
export const MIN_SEGMENT_BYTES = 8;
/** A segment size that means something else to the kernel (GSO_BY_FRAGS). */
export const NO_SEGMENT_BYTES = 0xffff;
/** The kernel's upper bound for the segments of one UDP super-packet. */
export const MAX_UDP_SEGMENTS = 128;

/** The messages of a device queue: message i has the slices from firstSlice(i) to end[i]. */
interface VirtioMessages {
  readonly end: Int32Array;
  readonly sliceOffset: Int32Array;
  readonly sliceLength: Int32Array;
  readonly gso: Uint8Array;
  readonly gsoBytes: Uint16Array;
  readonly headerBytes: Uint16Array;
  readonly needsChecksum: Uint8Array;
  readonly checksumStart: Uint16Array;
  readonly checksumOffset: Uint16Array;
  firstSlice(message: number): number;
}

/**
 * Writes a message's header to `at`, an even number. `linkBytes` is the length of a link's header between it and the packet.
 * Hot path: must not allocate.
 */
export function putHeader(
  { u8, u16 }: PacketMemory,
  at: number,
  queue: VirtioMessages,
  message: number,
  linkBytes = 0,
): void {
  const partial = queue.needsChecksum[message] !== 0;
  const gso = queue.gso[message]!;
  u8[at + FLAGS_AT] = partial ? NEEDS_CHECKSUM : 0;
  u8[at + GSO_TYPE_AT] = hasCwr(u8, queue, message) ? gso | GSO_ECN : gso;
  u16[(at + HEADER_LENGTH_AT) >> 1] = gso === Gso.None ? 0 : linkBytes + queue.headerBytes[message]!;
  u16[(at + GSO_SIZE_AT) >> 1] = gso === Gso.None ? 0 : queue.gsoBytes[message]!;
  u16[(at + CHECKSUM_START_AT) >> 1] = partial ? linkBytes + queue.checksumStart[message]! : 0;
  u16[(at + CHECKSUM_OFFSET_AT) >> 1] = partial ? queue.checksumOffset[message]! : 0;
}

function hasCwr(u8: Uint8Array, queue: VirtioMessages, message: number): boolean {
  if (queue.gso[message] !== Gso.Tcp4) return false;
  const tcpAt = queue.sliceOffset[queue.firstSlice(message)]! + queue.checksumStart[message]!;
  return (tcpFlags(u8, tcpAt) & Flag.Cwr) !== 0;
}

/** Why the kernel must not get a message. */
export const VirtioFault = {
  None: 0,
  HeaderCut: 1,
  NotIpv4: 2,
  LengthWrong: 3,
  ChecksumPlaceWrong: 4,
  GsoWithoutChecksum: 5,
  GsoProtocolWrong: 6,
  GsoHeaderWrong: 7,
  GsoSizeWrong: 8,
} as const;
export type VirtioFault = (typeof VirtioFault)[keyof typeof VirtioFault];

/** Checks one message. Its first slice must hold all of the IP header, and of a super-packet the transport header. */
export function virtioFault({ u8 }: PacketMemory, queue: VirtioMessages, message: number): VirtioFault {
  const first = queue.firstSlice(message);
  const end = queue.end[message]!;
  if (first === end || queue.sliceLength[first]! < IPV4_BYTES) return VirtioFault.HeaderCut;
  const at = queue.sliceOffset[first]!;
  if (u8[at]! >>> 4 !== 4) return VirtioFault.NotIpv4;
  const ipBytes = headerLength(u8, at);
  if (ipBytes < IPV4_BYTES || queue.sliceLength[first]! < ipBytes) return VirtioFault.HeaderCut;

  let bytes = 0;
  for (let i = first; i < end; i++) bytes += queue.sliceLength[i]!;
  if (totalLength(u8, at) !== bytes) return VirtioFault.LengthWrong;

  if (queue.needsChecksum[message] === 0) {
    return queue.gso[message] === Gso.None ? VirtioFault.None : VirtioFault.GsoWithoutChecksum;
  }
  const start = queue.checksumStart[message]!;
  if (start < ipBytes || start + queue.checksumOffset[message]! + 2 > bytes) return VirtioFault.ChecksumPlaceWrong;
  return queue.gso[message] === Gso.None ? VirtioFault.None : gsoFault(u8, queue, message, at, bytes);
}

function gsoFault(u8: Uint8Array, queue: VirtioMessages, message: number, at: number, bytes: number): VirtioFault {
  const tcp = queue.gso[message] === Gso.Tcp4;
  if (!tcp && queue.gso[message] !== Gso.Udp4) return VirtioFault.GsoProtocolWrong;
  if (u8[at + PROTOCOL_AT] !== (tcp ? Protocol.Tcp : Protocol.Udp)) return VirtioFault.GsoProtocolWrong;

  const ipBytes = headerLength(u8, at);
  const headerBytes = queue.headerBytes[message]!;
  if (queue.checksumStart[message] !== ipBytes || queue.checksumOffset[message] !== (tcp ? 16 : 6)) {
    return VirtioFault.ChecksumPlaceWrong;
  }
  if (headerBytes < ipBytes + UDP_BYTES || headerBytes > queue.sliceLength[queue.firstSlice(message)]!) {
    return VirtioFault.GsoHeaderWrong;
  }
  // A TCP header's length is in its 13th byte, which such a header must reach.
  const transportBytes = !tcp ? UDP_BYTES : headerBytes < ipBytes + 13 ? 0 : tcpHeaderLength(u8, at + ipBytes);
  if (headerBytes !== ipBytes + transportBytes || (tcp && transportBytes < 20)) return VirtioFault.GsoHeaderWrong;
  if (!tcp && get16(u8, at + ipBytes + 4) !== bytes - ipBytes) return VirtioFault.LengthWrong;

  const segmentBytes = queue.gsoBytes[message]!;
  if (segmentBytes < MIN_SEGMENT_BYTES || segmentBytes === NO_SEGMENT_BYTES || bytes <= headerBytes) {
    return VirtioFault.GsoSizeWrong;
  }
  if (!tcp && bytes - headerBytes > segmentBytes * MAX_UDP_SEGMENTS) return VirtioFault.GsoSizeWrong;
  return VirtioFault.None;
}
