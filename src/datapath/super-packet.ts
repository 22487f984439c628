// Super-packets of the device: what the kernel says of one must be true before it is cut or passed on.
import { ETHERNET_BYTES } from "../packet/ethernet.ts";
import { Protocol } from "../packet/ipv4.ts";
import type { Packet } from "../packet/packet.ts";
import { MAX_UDP_SEGMENTS, MIN_SEGMENT_BYTES, NO_SEGMENT_BYTES } from "../packet/virtio-net.ts";
import { Gso } from "./batch.ts";

/**
 * The longest IP packet that the kernel hands on in one piece: with an Ethernet header it stays below a link's
 * gso_max_size of 65,536. What is longer the kernel cuts itself.
 */
export const MAX_SUPER_PACKET_BYTES = 65_535 - ETHERNET_BYTES;

export function isSuperPacket(packet: Packet, gso: Gso, gsoBytes: number): boolean {
  const payload = packet.payloadBytes;
  if (!packet.partialChecksum || packet.fragment || packet.hasSurplus || payload <= 0) return false;
  if (gsoBytes < MIN_SEGMENT_BYTES || gsoBytes === NO_SEGMENT_BYTES) return false;
  if (gso === Gso.Tcp4) return packet.protocol === Protocol.Tcp;
  return gso === Gso.Udp4 && packet.protocol === Protocol.Udp && payload <= gsoBytes * MAX_UDP_SEGMENTS;
}
