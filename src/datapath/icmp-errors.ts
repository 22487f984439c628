// Answers to the sender of a packet that is dropped: an ICMP error (RFC 792), or a reset for a TCP segment to a port that no task
// serves. RFC 1122 section 3.2.2 and RFC 1812 section 4.3.2 say for which packets none may be sent.
import { set16, set32 } from "../lib/bytes.ts";
import type { Ipv4 } from "../lib/ip.ts";
import { RateLimit, SourceRateLimit } from "../lib/rate-limit.ts";
import type { Sum } from "../packet/checksum.ts";
import { Drop } from "../packet/drop.ts";
import * as icmp from "../packet/icmp.ts";
import * as ip from "../packet/ipv4.ts";
import type { PacketMemory } from "../packet/memory.ts";
import { Packet } from "../packet/packet.ts";
import type { Egress } from "./egress.ts";
import { OwnPackets } from "./own-packets.ts";
import type { Resets } from "./resets.ts";
import { DEVICE } from "./rows.ts";
import { bareVni } from "./sealed-way.ts";
import type { Tables } from "./tables.ts";

/** RFC 1812 section 4.3.2.3: the error has as much of the packet as fits into this. */
const ERROR_BYTES = 576;
const ERROR_HEADER_BYTES = ip.IPV4_BYTES + icmp.ICMP_BYTES;
/**
 * Answers a second. They are limited (RFC 1812 section 4.3.2.8), so that one flood does not cause another. Each sender has a limit of
 * its own, so that its flood silences no other sender. Senders outside may make up addresses, so all of them together have a limit
 * too. The limits are the node's: each worker has its part of them.
 */
const ANSWERS_PER_SOURCE = 200;
const ANSWERS_OUTSIDE = 1000;
/** RFC 1812 section 4.3.2.5: precedence INTERNETWORK CONTROL. */
const TOS = 0xc0;

const unreachable = (code: number): number => (icmp.Type.Unreachable << 8) | code;

/** Type << 8 | code, indexed by Drop; 0: the sender gets no answer. */
const MESSAGES: readonly number[] = (() => {
  const messages: number[] = Array(Math.max(...Object.values(Drop)) + 1).fill(0);
  messages[Drop.NotAllowed] = unreachable(icmp.Unreachable.Prohibited);
  messages[Drop.NoRoute] = unreachable(icmp.Unreachable.Host); // the pool's networks are all attached to us
  messages[Drop.NoTask] = unreachable(icmp.Unreachable.Port);
  messages[Drop.NoService] = unreachable(icmp.Unreachable.Port);
  messages[Drop.TooBig] = unreachable(icmp.Unreachable.FragmentationNeeded);
  messages[Drop.TtlExpired] = icmp.Type.TimeExceeded << 8;
  return messages;
})();

interface IcmpErrorsOptions {
  memory: PacketMemory;
  sum: Sum;
  tables: Tables;
  egress: Egress;
  resets: Resets;
  seed: number;
  /** How many workers share the limits. */
  workers: number;
}

/** The limits of one kind of answers. */
interface Limit {
  readonly sources: SourceRateLimit;
  readonly outside: RateLimit;
}

export class IcmpErrors {
  /** ICMP errors that were sent. */
  sent = 0;
  /** Answers that a limit held back, except those about packets that are too big. */
  limited = 0;
  /** Answers about packets that are too big, which a limit held back. */
  tooBigLimited = 0;
  readonly #u8: Uint8Array;
  readonly #sum: Sum;
  readonly #tables: Tables;
  readonly #egress: Egress;
  readonly #resets: Resets;
  readonly #slots: OwnPackets;
  readonly #error: Packet;
  /** The limit of "fragmentation needed". It has one of its own because large packets vanish without the answer. */
  readonly #tooBig: Limit;
  readonly #others: Limit;

  constructor({ memory, sum, tables, egress, resets, seed, workers }: IcmpErrorsOptions) {
    this.#tooBig = limitOf(seed, workers);
    this.#others = limitOf(seed, workers);
    this.#u8 = memory.u8;
    this.#sum = sum;
    this.#tables = tables;
    this.#egress = egress;
    this.#resets = resets;
    this.#slots = new OwnPackets(memory, ERROR_BYTES, () => egress.flush());
    this.#error = new Packet(memory, sum);
  }

  /**
   * Answers the sender of `packet`, which came from `from` on `vni`, is unchanged, and was dropped. For TooBig `mtu` is the size of the
   * largest packet that would have passed.
   */
  answer(packet: Packet, drop: Drop, from: Ipv4, vni: number, seconds: number, mtu = 0): void {
    const message = MESSAGES[drop]!;
    if (message === 0 || !mayBeAnswered(packet)) return;
    if (!this.#take(drop === Drop.TooBig ? this.#tooBig : this.#others, packet.source, seconds)) {
      if (drop === Drop.TooBig) this.tooBigLimited++;
      else this.limited++;
      return;
    }
    const isClosed = drop === Drop.NoService || drop === Drop.NoTask;
    if (isClosed && packet.protocol === ip.Protocol.Tcp) this.#resets.segment(packet, from, vni);
    else this.#sendError(packet, message, mtu, from, vni);
  }

  #take({ sources, outside }: Limit, source: Ipv4, seconds: number): boolean {
    if (!sources.take(source, seconds)) return false;
    return this.#tables.endpoints.has(source) || outside.take(seconds);
  }

  #sendError(packet: Packet, message: number, mtu: number, from: Ipv4, vni: number): void {
    const u8 = this.#u8;
    const at = this.#slots.take();
    const icmpAt = at + ip.IPV4_BYTES;
    const quoted = Math.min(packet.length, ERROR_BYTES - ERROR_HEADER_BYTES);
    const icmpBytes = icmp.ICMP_BYTES + quoted;
    ip.writeIpv4(u8, at, this.#sourceFor(packet, from, vni), packet.source, ip.Protocol.Icmp, icmpBytes);
    u8[at + ip.TOS_AT] = TOS;
    ip.writeHeaderChecksum(u8, at);
    set32(u8, icmpAt, message << 16); // the checksum is 0 meanwhile
    set32(u8, icmpAt + 4, mtu); // RFC 1191 section 4
    u8.copyWithin(icmpAt + icmp.ICMP_BYTES, packet.at, packet.at + quoted);
    set16(u8, icmpAt + icmp.CHECKSUM_AT, ~this.#sum(icmpAt, icmpBytes, 0));
    this.#error.parse(at, ip.IPV4_BYTES + icmpBytes);
    if (this.#egress.send(this.#error, from, vni, 0) === Drop.None) this.sent++;
  }

  /** The gateway of the sender's network. A sender without a network hears from the VIP or address that it sent to, or from the node. */
  #sourceFor(packet: Packet, from: Ipv4, vni: number): Ipv4 {
    const { endpoints, hostAddresses, networks, node, vips } = this.#tables;
    const network = networks.get(from === DEVICE ? (endpoints.get(packet.source)?.vni ?? 0) : bareVni(vni));
    if (network !== undefined) return network.gateway;
    const { destination } = packet;
    return from === DEVICE && (vips.has(destination) || hostAddresses.has(destination)) ? destination : node.ingress;
  }
}

function limitOf(seed: number, workers: number): Limit {
  return {
    sources: new SourceRateLimit(Math.ceil(ANSWERS_PER_SOURCE / workers), seed),
    outside: new RateLimit(Math.ceil(ANSWERS_OUTSIDE / workers)),
  };
}

/** RFC 1122 section 3.2.2: no answer for an ICMP error, a later fragment, or a packet without a single sender and receiver. */
function mayBeAnswered(packet: Packet): boolean {
  const from = packet.source >>> 24;
  const to = packet.destination >>> 24;
  return !packet.icmpError && !packet.laterFragment && from !== 0 && from !== 127 && from < 224 && to < 224;
}
