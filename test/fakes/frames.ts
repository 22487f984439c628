// VXLAN payloads for tests, and what is in them. Built with plain arithmetic, not with the code under test.
import { ipv4 } from "../../src/lib/ip.ts";

export interface FrameFields {
  vni: number;
  etherType?: number;
  destinationMac?: string;
  sourceMac?: string;
  flags?: number;
  /** Behind the packet, as Ethernet pads what is short. */
  padding?: number;
}

const macBytes = (text: string): number[] => text.split(":").map((byte) => Number.parseInt(byte, 16));

/** An Ethernet frame in VXLAN, RFC 7348 section 5. */
export function frame(packet: Uint8Array, fields: FrameFields): Uint8Array {
  const { vni, etherType = 0x0800, flags = 0x08, padding = 0 } = fields;
  const { destinationMac = "02:42:00:00:00:01", sourceMac = "02:42:00:00:00:02" } = fields;
  const bytes = new Uint8Array(22 + packet.length + padding);
  bytes[0] = flags;
  bytes.set([vni >> 16, (vni >> 8) & 255, vni & 255], 4);
  bytes.set(macBytes(destinationMac), 8);
  bytes.set(macBytes(sourceMac), 14);
  bytes.set([etherType >> 8, etherType & 255], 20);
  bytes.set(packet, 22);
  bytes.fill(0xee, 22 + packet.length);
  return bytes;
}

/** The inner destination MAC of a VXLAN payload. */
export function destinationMacOf(payload: Uint8Array): string {
  return [...payload.subarray(8, 14)].map((byte) => byte.toString(16).padStart(2, "0")).join(":");
}

/** A question who has `target`, RFC 826. */
export function arpRequest(sender: string, target: string): Uint8Array {
  const bytes = Uint8Array.of(0, 1, 8, 0, 6, 4, 0, 1, ...new Array<number>(20).fill(0));
  const view = new DataView(bytes.buffer);
  bytes.set([0x02, 0, 0, 0, 0, 9], 8);
  view.setInt32(14, ipv4(sender));
  view.setInt32(24, ipv4(target));
  return bytes;
}
