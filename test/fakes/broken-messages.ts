// Messages that no device may pass on. A TUN refuses some of them, and takes others and goes wrong.
import type { DeviceQueue } from "../../src/datapath/batch.ts";
import { set16 } from "../../src/lib/bytes.ts";
import { Gso } from "../../src/packet/virtio-net.ts";
import { tcpPacket, udpPacket } from "./ip-packets.ts";

export interface BrokenMessage {
  readonly title: string;
  readonly packet: Uint8Array;
  finish(queue: DeviceQueue): void;
}

const payload = new Uint8Array(1000);
const udp = udpPacket({ payload, partial: true });
const tcp = tcpPacket({ payload, partial: true });

function whole(title: string, packet: Uint8Array): BrokenMessage {
  return { title, packet, finish: (queue) => queue.finish() };
}

function partial(
  title: string,
  packet: Uint8Array,
  ...fields: Parameters<DeviceQueue["finishPartial"]>
): BrokenMessage {
  return { title, packet, finish: (queue) => queue.finishPartial(...fields) };
}

function changed(packet: Uint8Array, change: (bytes: Uint8Array) => void): Uint8Array {
  const copy = packet.slice();
  change(copy);
  return copy;
}

export const brokenMessages: readonly BrokenMessage[] = [
  whole("an empty packet", new Uint8Array(0)),
  whole(
    "an IP version neither 4 nor 6",
    changed(udp, (bytes) => bytes.fill(0x55, 0, 1)),
  ),
  whole(
    "IPv6",
    changed(udp, (bytes) => bytes.fill(0x60, 0, 1)),
  ),
  whole("a packet cut short", udp.slice(0, 100)),
  whole("a packet cut inside the IP header", udp.slice(0, 19)),
  whole(
    "a header length below 20",
    changed(udp, (bytes) => bytes.fill(0x44, 0, 1)),
  ),
  whole(
    "an IP length that wrapped",
    changed(udp, (bytes) => set16(bytes, 2, 10)),
  ),
  partial("a checksum beyond the packet", udp, Gso.None, 0, 0, 20, 1020),
  partial("a checksum start inside the IP header", udp, Gso.None, 0, 0, 10, 6),
  partial("a super-packet with segments of no bytes", tcp, Gso.Tcp4, 0, 40, 20, 16),
  partial("a super-packet with segments of one byte", tcp, Gso.Tcp4, 1, 40, 20, 16),
  partial("a segment size that the kernel gives another meaning", tcp, Gso.Tcp4, 65535, 40, 20, 16),
  partial("a header length beyond the packet", tcp, Gso.Tcp4, 100, 2000, 20, 16),
  partial("a header length that is not TCP's", tcp, Gso.Tcp4, 100, 60, 20, 16),
  partial("a super-packet of UDP with the checksum elsewhere", udp, Gso.Udp4, 100, 28, 20, 8),
  partial("TCP segmentation of UDP", udp, Gso.Tcp4, 100, 40, 20, 16),
  partial("UDP segmentation of TCP", tcp, Gso.Udp4, 100, 28, 20, 6),
  partial(
    "a UDP super-packet of more than 128 segments",
    udpPacket({ payload: new Uint8Array(2000), partial: true }),
    Gso.Udp4,
    10,
    28,
    20,
    6,
  ),
  partial(
    "a UDP length that is not the packet's",
    changed(udp, (bytes) => set16(bytes, 24, 100)),
    Gso.Udp4,
    100,
    28,
    20,
    6,
  ),
  {
    title: "a UDP super-packet with its checksum complete",
    packet: udpPacket({ payload }),
    finish: (queue) => {
      queue.finishPartial(Gso.Udp4, 100, 28, 20, 6);
      queue.needsChecksum[queue.messages - 1] = 0;
    },
  },
  {
    title: "a TCP super-packet with its checksum complete",
    packet: tcpPacket({ payload }),
    finish: (queue) => {
      queue.finishPartial(Gso.Tcp4, 100, 40, 20, 16);
      queue.needsChecksum[queue.messages - 1] = 0;
    },
  },
];
