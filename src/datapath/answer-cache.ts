// Answers of this node's DNS server that hold until it says otherwise (dns/answer-cache.ts). A container that asks the same
// question again gets the answer here: its packet is turned round, and costs the host's IP stack and the server's thread nothing.
//
// The cache has a fixed number of places, in sets. A question belongs to one set, and takes the place there that was taken first.
import { set16 } from "../lib/bytes.ts";
import type { Ipv4 } from "../lib/ip.ts";
import { DNS_PORT } from "../lib/standard-ports.ts";
import { fold } from "../packet/checksum.ts";
import * as ip from "../packet/ipv4.ts";
import type { PacketMemory } from "../packet/memory.ts";
import type { Packet } from "../packet/packet.ts";
import * as udp from "../packet/udp.ts";

const SETS = 512;
const WAYS = 4;
export const QUESTION_BYTES = 128;
export const RESPONSE_BYTES = 384;
/** A DNS message begins with its id, which is no part of the question. */
const ID_BYTES = 2;
const HEADER_BYTES = ip.IPV4_BYTES + udp.UDP_BYTES;

/** An answer, and the one question that it is given to. */
export interface CachedAnswer {
  client: Ipv4;
  /** The address that was asked. */
  server: Ipv4;
  /** Whole DNS messages, RFC 1035 section 4.1, whatever their ids. */
  question: Uint8Array;
  response: Uint8Array;
}

/** Whether a place has room for the answer. */
export function fits({ question, response }: CachedAnswer): boolean {
  return question.length <= QUESTION_BYTES && response.length <= RESPONSE_BYTES;
}

export class AnswerCache {
  /** Answers that were given. */
  given = 0;
  readonly #u8: Uint8Array;
  readonly #questions: number;
  readonly #responses: number;
  /** The generation of each place, and so for the arrays below. A place of another generation than `#current` is free. */
  readonly #generation = new Int32Array(SETS * WAYS);
  readonly #client = new Int32Array(SETS * WAYS);
  readonly #server = new Int32Array(SETS * WAYS);
  readonly #questionBytes = new Uint16Array(SETS * WAYS);
  readonly #responseBytes = new Uint16Array(SETS * WAYS);
  /** Which of its places each set takes next. */
  readonly #next = new Uint8Array(SETS);
  #current = 1;

  constructor(memory: PacketMemory) {
    this.#u8 = memory.u8;
    this.#questions = memory.alloc(SETS * WAYS * QUESTION_BYTES);
    this.#responses = memory.alloc(SETS * WAYS * RESPONSE_BYTES);
  }

  /** Keeps the answer, unless it does not fit. */
  add(answer: CachedAnswer): void {
    if (!fits(answer)) return;
    const { client, server, question, response } = answer;
    const u8 = this.#u8;
    const found = this.#find(client, server, question, 0, question.length);
    const place = found >= 0 ? found : this.#takePlace(setOf(client, server, question, 0, question.length));
    this.#generation[place] = this.#current;
    this.#client[place] = client;
    this.#server[place] = server;
    this.#questionBytes[place] = question.length;
    this.#responseBytes[place] = response.length;
    u8.set(question, this.#questions + place * QUESTION_BYTES);
    u8.set(response, this.#responses + place * RESPONSE_BYTES);
  }

  /** Forgets all answers. */
  forget(): void {
    this.#current = (this.#current + 1) | 0;
    if (this.#current === 0) this.#current = 1;
  }

  /**
   * Whether `packet`, a whole UDP datagram that was sent to DNS_PORT, with a checksum that is right or partial, could be turned into its
   * answer.
   * Hot path: must not allocate.
   */
  answer(packet: Packet): boolean {
    const { u8, at, source, destination, ports, transport } = packet;
    const bytes = packet.payloadBytes;
    if (packet.headerBytes !== HEADER_BYTES || bytes > QUESTION_BYTES || bytes <= ID_BYTES || packet.hasSurplus)
      return false;
    if (ports >>> 16 === 0) return false; // no answer is expected there, RFC 768
    const message = at + HEADER_BYTES;
    const place = this.#find(source, destination, u8, message, bytes);
    if (place < 0) return false;
    const responseBytes = this.#responseBytes[place]!;
    const response = this.#responses + place * RESPONSE_BYTES;
    u8.copyWithin(message + ID_BYTES, response + ID_BYTES, response + responseBytes);
    const udpBytes = udp.UDP_BYTES + responseBytes;
    ip.writeIpv4(u8, at, destination, source, ip.Protocol.Udp, udpBytes);
    udp.writeUdp(u8, transport, DNS_PORT, ports >>> 16, responseBytes);
    const pseudo = fold(ip.pseudoHeaderSum(destination, source, ip.Protocol.Udp, udpBytes));
    set16(u8, transport + udp.CHECKSUM_AT, pseudo);
    packet.parse(at, ip.IPV4_BYTES + udpBytes);
    packet.partialChecksum = true;
    this.given++;
    return true;
  }

  #takePlace(set: number): number {
    const way = this.#next[set]!;
    this.#next[set] = (way + 1) % WAYS;
    return set * WAYS + way;
  }

  /** The place of the question at `at`; -1: there is none. */
  #find(client: Ipv4, server: Ipv4, bytes: Uint8Array, at: number, length: number): number {
    const first = WAYS * setOf(client, server, bytes, at, length);
    for (let place = first; place < first + WAYS; place++) {
      if (
        this.#generation[place] === this.#current &&
        this.#client[place] === client &&
        this.#server[place] === server &&
        this.#questionBytes[place] === length &&
        this.#isQuestion(place, bytes, at, length)
      )
        return place;
    }
    return -1;
  }

  #isQuestion(place: number, bytes: Uint8Array, at: number, length: number): boolean {
    const question = this.#questions + place * QUESTION_BYTES;
    for (let i = ID_BYTES; i < length; i++) if (bytes[at + i] !== this.#u8[question + i]) return false;
    return true;
  }
}

/** FNV-1a over all but the id. */
function setOf(client: Ipv4, server: Ipv4, bytes: Uint8Array, at: number, length: number): number {
  let hash = Math.imul(client ^ 0x811c9dc5, 0x01000193) ^ server;
  for (let i = at + ID_BYTES; i < at + length; i++) hash = Math.imul(hash ^ bytes[i]!, 0x01000193);
  return (hash ^ (hash >>> 16)) & (SETS - 1);
}
