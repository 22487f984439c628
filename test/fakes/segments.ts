// What a network card makes of a super-packet: plain arithmetic, every checksum from scratch.
import { onesSum } from "./ip-packets.ts";

/** The packets of `segmentBytes` payload, the last with what is left; their checksums are complete. */
export function segmentsOf(superPacket: Uint8Array, segmentBytes: number): Uint8Array[] {
  const ipBytes = (superPacket[0]! & 15) * 4;
  const isTcp = superPacket[9] === 6;
  const headerBytes = ipBytes + (isTcp ? (superPacket[ipBytes + 12]! >> 4) * 4 : 8);
  const segments: Uint8Array[] = [];
  for (let at = headerBytes; at < superPacket.length; at += segmentBytes) {
    const payload = superPacket.subarray(at, at + segmentBytes);
    const packet = new Uint8Array(headerBytes + payload.length);
    packet.set(superPacket.subarray(0, headerBytes));
    packet.set(payload, headerBytes);
    const view = new DataView(packet.buffer);
    view.setUint16(2, packet.length);
    view.setUint16(4, view.getUint16(4) + segments.length);
    if (isTcp) {
      view.setUint32(ipBytes + 4, view.getUint32(ipBytes + 4) + at - headerBytes);
      let flags = packet[ipBytes + 13]!;
      if (at + segmentBytes < superPacket.length) flags &= ~(0x01 | 0x08); // FIN and PSH: the last one's
      if (segments.length > 0) flags &= ~0x80; // CWR: the first one's
      packet[ipBytes + 13] = flags;
    } else view.setUint16(ipBytes + 4, packet.length - ipBytes);
    writeChecksums(packet, ipBytes, ipBytes + (isTcp ? 16 : 6));
    segments.push(packet);
  }
  return segments;
}

/** Computes both checksums of a TCP or UDP packet anew. */
export function writeChecksums(packet: Uint8Array, ipBytes: number, field: number): void {
  const view = new DataView(packet.buffer, packet.byteOffset, packet.byteLength);
  view.setUint16(10, 0);
  view.setUint16(10, ~onesSum(packet.subarray(0, ipBytes)) & 0xffff);
  view.setUint16(field, 0);
  const pseudo = onesSum(packet.subarray(12, 20), packet[9]! + packet.length - ipBytes);
  const value = ~onesSum(packet.subarray(ipBytes), pseudo) & 0xffff;
  view.setUint16(field, value === 0 && packet[9] === 17 ? 0xffff : value);
}

/** The same packet with options in its IP header, which are a multiple of four bytes long. Its checksum is complete. */
export function withIpOptions(packet: Uint8Array, options: readonly number[]): Uint8Array {
  const ipBytes = 20 + options.length;
  const longer = new Uint8Array(packet.length + options.length);
  longer.set(packet.subarray(0, 20));
  longer.set(options, 20);
  longer.set(packet.subarray(20), ipBytes);
  longer[0] = 0x40 | (ipBytes / 4);
  new DataView(longer.buffer).setUint16(2, longer.length);
  writeChecksums(longer, ipBytes, ipBytes + (packet[9] === 6 ? 16 : 6));
  return longer;
}
