// Trains of packets, as a sender's window makes them, and what a device's super-packets are in the end.
import { Gso } from "../../src/packet/virtio-net.ts";
import type { DevicePacket } from "./in-process.ts";
import { ACK, completed, describe, type Fields, ipPacket } from "./ip-packets.ts";
import { segmentsOf } from "./segments.ts";

const FROM = { source: "10.192.32.20", destination: "10.192.32.10" };

/** The packets that whoever takes these from the device has in the end. */
export function taken(written: readonly DevicePacket[]): Uint8Array[] {
  return written.flatMap(({ bytes, gso, gsoBytes }) =>
    gso === Gso.None ? [completed(bytes)] : segmentsOf(bytes, gsoBytes),
  );
}

const body = (length: number, first: number): Uint8Array => new Uint8Array(length).map((_, i) => first + i * 7);

/** TCP segments or UDP datagrams with payloads of these lengths, each changed as `change` says. */
export function train(
  lengths: readonly number[],
  fields: Partial<Fields> = {},
  change: (i: number) => Partial<Fields> = () => ({}),
): Uint8Array[] {
  let sequence = fields.sequence ?? 1000;
  return lengths.map((length, i) => {
    const packet: Fields = { ...FROM, flags: ACK, ...fields, sequence, id: 100 + i, payload: body(length, i) };
    sequence += length;
    return ipPacket({ ...packet, ...change(i) });
  });
}

/** What a packet says but for its id: a super-packet's segments count up from the first one's, whatever they had. */
export const withoutId = (packet: Uint8Array): object => ({ ...describe(packet), id: 0 });
