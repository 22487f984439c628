// The rest of a train of datagrams: the kernel's GRO joins datagrams of one outer flow, and mostly they carry one inner flow. A datagram
// that differs from the first only as segments of a super-packet do needs no look-up of its own: it is compared with the first as
// that came, and follows it into its super-packet.
import { fold, type Sum } from "../packet/checksum.ts";
import { ETHERNET_BYTES } from "../packet/ethernet.ts";
import * as ip from "../packet/ipv4.ts";
import type { PacketMemory } from "../packet/memory.ts";
import type { Packet } from "../packet/packet.ts";
import * as tcp from "../packet/tcp.ts";
import * as udp from "../packet/udp.ts";
import { VXLAN_BYTES } from "../packet/vxlan.ts";
import type { Egress } from "./egress.ts";

const INNER = VXLAN_BYTES + ETHERNET_BYTES;
/** Encapsulation, IPv4 without options, TCP with all of its options. */
const HEADER_BYTES = INNER + ip.IPV4_BYTES + 60;
/** PSH in the word of data offset, flags and window. */
const PUSH = tcp.Flag.Psh << 16;

export class GroRun {
  readonly #view: DataView;
  readonly #sum: Sum;
  /** The first datagram's headers as they came. */
  readonly #first: number;
  // What the last follow() has queued.
  packets = 0;
  bytes = 0;
  /** The sequence number after it, if it was TCP. */
  nextSequence = 0;

  constructor(memory: PacketMemory, sum: Sum) {
    this.#view = memory.view;
    this.#sum = sum;
    this.#first = memory.alloc(HEADER_BYTES);
  }

  /** Keeps the headers of the datagram at `at`, before they are rewritten. `bytes` of it are there. */
  remember(at: number, bytes: number): void {
    const view = this.#view;
    const end = Math.min(bytes, HEADER_BYTES) & ~3;
    for (let i = 0; i < end; i += 4) view.setInt32(this.#first + i, view.getInt32(at + i));
  }

  /**
   * Queues the datagrams from `at` on that continue `packet`, which was remembered, carried, and queued last by `egress`. The fields say
   * how many they are. Each datagram has `step` bytes, the last one up to `end` may have fewer. With `verifies` the first one whose
   * checksum is not right ends the run, to be judged alone. Of datagrams that were sealed `lengths` has the bytes, from `first` on: they
   * begin as far apart. Hot path: must not allocate.
   */
  follow(
    packet: Packet,
    egress: Egress,
    at: number,
    end: number,
    step: number,
    verifies: boolean,
    lengths?: Int32Array,
    first = 0,
  ): void {
    const headers = INNER + packet.headerBytes;
    const isTcp = packet.protocol === ip.Protocol.Tcp;
    this.packets = this.bytes = 0;
    if (packet.transport - packet.at !== ip.IPV4_BYTES) return;
    if (isTcp) this.nextSequence = (tcp.sequence(packet.u8, packet.transport) + packet.payloadBytes) | 0;
    const pseudo = this.#pseudoSumOfFirst();
    for (let next = at; next < end; next += step) {
      const bytes = lengths === undefined ? Math.min(step, end - next) : lengths[first + this.packets]!;
      const payload = bytes - headers;
      if (payload <= 0 || !egress.canExtend(payload) || !this.#matches(next, bytes, isTcp, packet.headerBytes)) return;
      if (verifies && !this.#isRight(next + INNER + ip.IPV4_BYTES, bytes - INNER - ip.IPV4_BYTES, pseudo)) return;
      const flags = isTcp ? this.#view.getUint8(next + INNER + ip.IPV4_BYTES + tcp.FLAGS_AT) : 0;
      egress.extend(next + headers, payload, flags);
      this.packets++;
      this.bytes += bytes - INNER;
      this.nextSequence = (this.nextSequence + payload) | 0;
    }
  }

  /** `pseudo` is the sum of the pseudo-header without the length. */
  #isRight(transport: number, bytes: number, pseudo: number): boolean {
    return this.#sum(transport, bytes, fold(pseudo + bytes)) === 0xffff;
  }

  /** The sum of the first datagram's pseudo-header without the length, before it was rewritten. */
  #pseudoSumOfFirst(): number {
    const view = this.#view;
    const inner = this.#first + INNER;
    const protocol = view.getUint8(inner + ip.PROTOCOL_AT);
    return ip.pseudoHeaderSum(
      view.getInt32(inner + ip.SOURCE_AT),
      view.getInt32(inner + ip.DESTINATION_AT),
      protocol,
      0,
    );
  }

  /** Whether the datagram is the first's next segment: all but length, id, checksums, sequence and PSH is the same. */
  #matches(at: number, bytes: number, isTcp: boolean, headerBytes: number): boolean {
    const view = this.#view;
    const first = this.#first;
    for (let i = 0; i < 20; i += 4) if (view.getInt32(at + i) !== view.getInt32(first + i)) return false;
    const inner = at + INNER;
    const firstInner = first + INNER;
    if (
      view.getInt16(at + 20) !== view.getInt16(first + 20) ||
      view.getInt16(inner) !== view.getInt16(firstInner) || // version, IHL, TOS
      view.getUint16(inner + ip.TOTAL_LENGTH_AT) !== bytes - INNER ||
      view.getInt32(inner + ip.FRAGMENT_AT) !== view.getInt32(firstInner + ip.FRAGMENT_AT) || // and TTL, protocol
      view.getInt32(inner + ip.SOURCE_AT) !== view.getInt32(firstInner + ip.SOURCE_AT) ||
      view.getInt32(inner + ip.DESTINATION_AT) !== view.getInt32(firstInner + ip.DESTINATION_AT)
    )
      return false;
    const transport = inner + ip.IPV4_BYTES;
    const firstTransport = firstInner + ip.IPV4_BYTES;
    if (view.getInt32(transport) !== view.getInt32(firstTransport)) return false; // ports
    if (isTcp) return this.#matchesTcp(transport, firstTransport, headerBytes - ip.IPV4_BYTES);
    return (
      view.getUint16(transport + udp.LENGTH_AT) === bytes - INNER - ip.IPV4_BYTES &&
      view.getUint16(transport + udp.CHECKSUM_AT) !== 0
    );
  }

  #matchesTcp(transport: number, first: number, headerBytes: number): boolean {
    const view = this.#view;
    if (
      view.getInt32(transport + tcp.SEQUENCE_AT) !== this.nextSequence ||
      view.getInt32(transport + tcp.ACKNOWLEDGMENT_AT) !== view.getInt32(first + tcp.ACKNOWLEDGMENT_AT) ||
      ((view.getInt32(transport + tcp.DATA_OFFSET_AT) ^ view.getInt32(first + tcp.DATA_OFFSET_AT)) & ~PUSH) !== 0
    )
      return false;
    for (let i = tcp.TCP_BYTES; i < headerBytes; i += 4)
      if (view.getInt32(transport + i) !== view.getInt32(first + i)) return false;
    return true;
  }
}
