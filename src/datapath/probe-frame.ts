// The frame of a probe: BFD over UDP and IP in the management VNI, as RFC 8971 section 3 has it, padded to any size.
import { get16, get32, set16 } from "../lib/bytes.ts";
import type { Ipv4 } from "../lib/ip.ts";
import * as bfd from "../packet/bfd.ts";
import type { Sum } from "../packet/checksum.ts";
import { ETHERNET_BYTES, EtherType, writeEthernet } from "../packet/ethernet.ts";
import * as ip from "../packet/ipv4.ts";
import * as udp from "../packet/udp.ts";
import { MANAGEMENT_VNI, VXLAN_BYTES, writeVxlan } from "../packet/vxlan.ts";

/** 00-00-5E-00-52-02. */
const BFD_MAC = [0x00, 0x00, 0x5e, 0x00, 0x52, 0x02];
/** An address of 127/8, so that a decapsulating host never forwards it. */
const LOOPBACK = 0x7f000001;
/** RFC 5881 section 5: what came through a router has less. */
const TTL = 255;
/** RFC 5881 section 4. */
const FIRST_SOURCE_PORT = 49152;

const IP_AT = VXLAN_BYTES + ETHERNET_BYTES;
const UDP_AT = IP_AT + ip.IPV4_BYTES;
const BFD_AT = UDP_AT + udp.UDP_BYTES;
// Bytes of a probe without padding: the whole frame, and its inner IP packet.
export const FRAME_BYTES = BFD_AT + bfd.BFD_BYTES;
export const PACKET_BYTES = FRAME_BYTES - IP_AT;

/** Whether the `bytes` at `at`, in a frame of this EtherType, are a probe's IP packet. */
export function isProbe(u8: Uint8Array, at: number, type: number, bytes: number): boolean {
  const message = at + ip.IPV4_BYTES + udp.UDP_BYTES;
  return (
    type === EtherType.Ipv4 &&
    bytes >= PACKET_BYTES &&
    u8[at] === 0x45 &&
    ip.totalLength(u8, at) >= PACKET_BYTES &&
    ip.totalLength(u8, at) <= bytes &&
    u8[at + ip.TTL_AT] === TTL &&
    u8[at + ip.PROTOCOL_AT] === ip.Protocol.Udp &&
    get32(u8, at + ip.DESTINATION_AT) >>> 24 === 127 &&
    get16(u8, at + ip.IPV4_BYTES + 2) === bfd.BFD_PORT &&
    bfd.isBfd(u8, message, bytes - ip.IPV4_BYTES - udp.UDP_BYTES)
  );
}

/** Writes FRAME_BYTES at `frame`; the inner packet says `packetBytes`, with zeros that the caller puts behind. */
export function writeProbe(
  u8: Uint8Array,
  sum: Sum,
  frame: number,
  vtep: Ipv4,
  packetBytes: number,
  fields: bfd.BfdFields,
): void {
  const udpBytes = packetBytes - ip.IPV4_BYTES;
  const sourcePort = FIRST_SOURCE_PORT + (fields.myDiscriminator & 0x3fff);
  writeVxlan(u8, frame, MANAGEMENT_VNI);
  writeEthernet(u8, frame + VXLAN_BYTES, 0, vtep, EtherType.Ipv4);
  u8.set(BFD_MAC, frame + VXLAN_BYTES);
  ip.writeIpv4(u8, frame + IP_AT, vtep, LOOPBACK, ip.Protocol.Udp, udpBytes, TTL);
  udp.writeUdp(u8, frame + UDP_AT, sourcePort, bfd.BFD_PORT, udpBytes - udp.UDP_BYTES);
  bfd.writeBfd(u8, frame + BFD_AT, fields);
  const pseudo = ip.pseudoHeaderSum(vtep, LOOPBACK, ip.Protocol.Udp, udpBytes);
  const value = ~sum(frame + UDP_AT, udp.UDP_BYTES + bfd.BFD_BYTES, (pseudo & 0xffff) + (pseudo >>> 16)) & 0xffff;
  set16(u8, frame + UDP_AT + udp.CHECKSUM_AT, value === 0 ? 0xffff : value);
}
