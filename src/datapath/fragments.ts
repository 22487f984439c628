// The ports of a datagram's later fragments: only the first fragment has them, and all go where it went. Nothing is
// reassembled here. A later fragment that comes before the first is dropped, not held: one datagram's fragments travel
// in one queue and from one outer port, in order, so that a first one that is not there yet was lost, and the datagram
// with it. A datagram has a place from when its first fragment was let pass.
// BOUNDED: SETS * WAYS datagrams, the oldest of a set making room: a source's own, when it has a quarter of the set; keyed
// by zone, protocol, addresses and id.
import { get16 } from "../lib/bytes.ts";
import type { Ipv4 } from "../lib/ip.ts";
import { Drop } from "../packet/drop.ts";
import * as ip from "../packet/ipv4.ts";
import type { Packet } from "../packet/packet.ts";

const SETS = 128;
const WAYS = 32;
const MOST_OF_A_SOURCE = WAYS / 4;
/** RFC 791 section 3.2 and Linux's ipfrag_time: no receiver waits longer for the rest. */
const LIFETIME_SECONDS = 30;
const MAX_PACKET_BYTES = 65535;

// Words of an entry.
const ZONE = 0; // zone << 8 | protocol
const SOURCE = 1;
const DESTINATION = 2;
const ID = 3;
const PORTS = 4;
const SEEN = 5; // seconds; an entry that was never used has 0 everywhere
const WORDS = 6;

export class FragmentTable {
  readonly #words = new Int32Array(SETS * WAYS * WORDS);
  readonly #seed: number;
  /** Datagrams that others displaced while more of their fragments might still have come. */
  displaced = 0;

  /** `seed` keys the hash, so that no sender can choose colliding datagrams. */
  constructor(seed: number) {
    this.#seed = seed;
  }

  /** Gives a later fragment the ports of its first one. Hot path: must not allocate. */
  find(packet: Packet, zone: number, seconds: number): Drop {
    if (isBroken(packet)) return Drop.BadFragment;
    if (!packet.laterFragment) return Drop.None;
    const zoneWord = (zone << 8) | packet.protocol;
    const id = get16(packet.u8, packet.at + ip.ID_AT);
    const words = this.#words;
    const at = this.#find(this.#setOf(zoneWord, packet.source, packet.destination, id), zoneWord, packet, id);
    if (at < 0 || seconds - words[at + SEEN]! > LIFETIME_SECONDS) return Drop.FragmentWithoutFirst;
    packet.ports = words[at + PORTS]!;
    return Drop.None;
  }

  /** Remembers the ports of a first fragment that passes, which are as they came. Hot path: must not allocate. */
  remember(packet: Packet, zone: number, seconds: number): void {
    const zoneWord = (zone << 8) | packet.protocol;
    const id = get16(packet.u8, packet.at + ip.ID_AT);
    const set = this.#setOf(zoneWord, packet.source, packet.destination, id);
    const words = this.#words;
    let at = this.#find(set, zoneWord, packet, id);
    if (at < 0) {
      at = this.#placeFor(set, packet.source);
      if (words[at + SOURCE] !== 0 && seconds - words[at + SEEN]! <= LIFETIME_SECONDS) this.displaced++;
    }
    words[at + ZONE] = zoneWord;
    words[at + SOURCE] = packet.source;
    words[at + DESTINATION] = packet.destination;
    words[at + ID] = id;
    words[at + PORTS] = packet.ports;
    words[at + SEEN] = seconds;
  }

  #find(set: number, zoneWord: number, packet: Packet, id: number): number {
    const words = this.#words;
    for (let at = set; at < set + WAYS * WORDS; at += WORDS) {
      if (
        words[at + ZONE] === zoneWord &&
        words[at + SOURCE] === packet.source &&
        words[at + DESTINATION] === packet.destination &&
        words[at + ID] === id
      )
        return at;
    }
    return -1;
  }

  /** The oldest place of the set; when the source has as many places as it may, the oldest of the source. */
  #placeFor(set: number, source: Ipv4): number {
    const words = this.#words;
    let oldest = set;
    let own = -1;
    let owned = 0;
    for (let at = set; at < set + WAYS * WORDS; at += WORDS) {
      if (words[at + SEEN]! < words[oldest + SEEN]!) oldest = at;
      if (words[at + SOURCE] !== source) continue;
      owned++;
      if (own < 0 || words[at + SEEN]! < words[own + SEEN]!) own = at;
    }
    return owned >= MOST_OF_A_SOURCE ? own : oldest;
  }

  #setOf(zoneWord: number, source: Ipv4, destination: Ipv4, id: number): number {
    let h = Math.imul(source ^ Math.imul(destination ^ this.#seed, 0x9e3779b1), 0x85ebca6b);
    h = Math.imul(h ^ (h >>> 15) ^ zoneWord ^ (id << 16), 0xc2b2ae35);
    return ((h >>> 16) & (SETS - 1)) * WAYS * WORDS;
  }
}

/** Whether the fragment would make its datagram too long, overlay the TCP header (RFC 3128), or is a piece of an ICMP error. */
function isBroken(packet: Packet): boolean {
  const offset = (get16(packet.u8, packet.at + ip.FRAGMENT_AT) & ip.OFFSET_MASK) * 8;
  if (packet.icmpError || packet.partialChecksum) return true;
  if (offset === 8 && packet.protocol === ip.Protocol.Tcp) return true;
  return packet.length + offset > MAX_PACKET_BYTES;
}
