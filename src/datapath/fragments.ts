// Which ports the later fragments of a datagram belong to: the first one has them, and all go where it went. Nothing is
// reassembled here. A later fragment that comes before the first is dropped, not held: one datagram's fragments travel
// in one queue and from one outer port, in order, so that a first one that is not there yet was lost, and the datagram
// with it.
// BOUNDED: SETS * WAYS datagrams, the oldest of a set making room; keyed by zone, protocol, addresses and id.
import { get16 } from "../lib/bytes.ts";
import { Drop } from "../packet/drop.ts";
import * as ip from "../packet/ipv4.ts";
import type { Packet } from "../packet/packet.ts";

const SETS = 512;
const WAYS = 4;
/** RFC 791 section 3.2 and Linux's ipfrag_time: nobody waits longer for the rest. */
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

  /**
   * Gives a later fragment the ports of its first one, and remembers those of a first one. Hot path: must not
   * allocate.
   */
  place(packet: Packet, zone: number, seconds: number): Drop {
    if (isBroken(packet)) return Drop.BadFragment;
    const zoneWord = (zone << 8) | packet.protocol;
    const id = get16(packet.u8, packet.at + ip.ID_AT);
    const set = setOf(zoneWord, packet.source, packet.destination, id) * WAYS * WORDS;
    let at = this.#find(set, zoneWord, packet, id);
    const words = this.#words;
    if (packet.laterFragment) {
      if (at < 0 || seconds - words[at + SEEN]! > LIFETIME_SECONDS) return Drop.FragmentWithoutFirst;
      packet.ports = words[at + PORTS]!;
      return Drop.None;
    }
    if (at < 0) at = this.#oldestOf(set);
    words[at + ZONE] = zoneWord;
    words[at + SOURCE] = packet.source;
    words[at + DESTINATION] = packet.destination;
    words[at + ID] = id;
    words[at + PORTS] = packet.ports;
    words[at + SEEN] = seconds;
    return Drop.None;
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

  #oldestOf(set: number): number {
    const words = this.#words;
    let oldest = set;
    for (let at = set + WORDS; at < set + WAYS * WORDS; at += WORDS) {
      if (words[at + SEEN]! < words[oldest + SEEN]!) oldest = at;
    }
    return oldest;
  }
}

/** One that would make the datagram too long, or overlay the TCP header (RFC 3128), or tells of an error in pieces. */
function isBroken(packet: Packet): boolean {
  const offset = (get16(packet.u8, packet.at + ip.FRAGMENT_AT) & ip.OFFSET_MASK) * 8;
  if (packet.icmpError || packet.partialChecksum) return true;
  if (offset === 8 && packet.protocol === ip.Protocol.Tcp) return true;
  return packet.length + offset > MAX_PACKET_BYTES;
}

function setOf(zoneWord: number, source: number, destination: number, id: number): number {
  let h = Math.imul(source ^ Math.imul(destination, 0x9e3779b1), 0x85ebca6b);
  h = Math.imul(h ^ (h >>> 15) ^ zoneWord ^ (id << 16), 0xc2b2ae35);
  return (h >>> 16) & (SETS - 1);
}
