// DNS messages, RFC 1035 section 4, with EDNS0, RFC 6891: parseQuery() checks every bound once and says what is wrong, and
// encodeResponse() writes the answer. What most clients ask for is written by hand: addresses, services (which may have
// thousands of tasks) and that there is nothing. The data of other records is written by dns-packet.
import { encode, type Answer as PacketRecord, type SoaData } from "dns-packet";
import type { Ipv4 } from "../lib/ip.ts";

export const HEADER_BYTES = 12;
export const RECORD_FIXED_BYTES = 10; // type, class, TTL, length
/** An OPT record without options. */
export const OPT_BYTES = 11;
const MAX_NAME_BYTES = 255;
const MAX_LABEL_BYTES = 63;
const POINTER = 0xc0;
/** A compressed name: the question's. */
const QUESTION_POINTER = (POINTER << 8) | HEADER_BYTES;

export const Flag = { QR: 0x8000, AA: 0x0400, TC: 0x0200, RD: 0x0100, RA: 0x0080, AD: 0x0020, CD: 0x0010 } as const;
const OPCODE_MASK = 0x7800;
const DNSSEC_OK = 0x8000;

export const Type = {
  A: 1,
  NS: 2,
  SOA: 6,
  PTR: 12,
  TXT: 16,
  AAAA: 28,
  SRV: 33,
  OPT: 41,
  DS: 43,
  DNSKEY: 48,
  IXFR: 251,
  AXFR: 252,
  ANY: 255,
} as const;
const CLASS_IN = 1;

export const Rcode = {
  NoError: 0,
  FormErr: 1,
  ServFail: 2,
  NXDomain: 3,
  NotImp: 4,
  Refused: 5,
  BadVers: 16,
} as const;
export type Rcode = (typeof Rcode)[keyof typeof Rcode];

/** The largest datagram that this server sends or asks for: below every usual MTU, so that nothing is fragmented. */
const UDP_BYTES = 1232;
/** What a resolver without EDNS takes, RFC 1035 section 2.3.4. */
const PLAIN_UDP_BYTES = 512;
export const TCP_BYTES = 65535;

interface Edns {
  readonly udpBytes: number;
  readonly dnssecOk: boolean;
}

export interface Query {
  readonly id: number;
  /** The header's second word, as received. */
  readonly flags: number;
  /** Lower case, labels joined by dots, none at the end; a dot or backslash inside a label is escaped. "" is the root. */
  readonly name: string;
  readonly type: number;
  /** Name, type and class as asked; empty when they could not be read. Part of the received message. */
  readonly question: Buffer;
  readonly edns: Edns | undefined;
  /** NoError: it can be answered. Otherwise the response code of its answer. */
  readonly fault: Rcode;
}

/** A record that dns-packet writes. Its name "" is the question's own, in the letter case asked. */
export type DnsRecord = PacketRecord;

export type Answer =
  /** A records of the question's own name. */
  | { readonly kind: "addresses"; readonly addresses: readonly Ipv4[]; readonly ttlSeconds: number }
  /** SRV records of the question's own name, and the addresses of the targets. */
  | {
      readonly kind: "services";
      readonly targets: readonly { readonly name: string; readonly address: Ipv4 }[];
      /** The domain that the targets' names are under. */
      readonly zone: string;
      readonly port: number;
      readonly ttlSeconds: number;
    }
  /** There is no such name, or (NoError) no such record of it. The SOA of the zone ("": the root) says how long that holds, RFC 2308. */
  | {
      readonly kind: "negative";
      readonly rcode: Rcode;
      readonly zone: string;
      readonly ttlSeconds: number;
      readonly soa: SoaData;
    }
  | { readonly kind: "records"; readonly records: readonly DnsRecord[] }
  /** A response code and nothing more. */
  | { readonly kind: "code"; readonly rcode: Rcode }
  /** An upstream's whole message to the same question, without OPT. */
  | { readonly kind: "message"; readonly message: Buffer };

/** An answer that is a response code and nothing more. */
export function codeOnly(rcode: Rcode): Answer {
  return { kind: "code", rcode };
}

const NO_QUESTION = Buffer.alloc(0);

/** Reads a query. undefined: nothing to answer, because it is a response or has not even an id and flags. */
export function parseQuery(message: Buffer): Query | undefined {
  if (message.length < 4 || (message[2]! & 0x80) !== 0) return undefined;
  const flags = message.readUInt16BE(2);
  const unread = (fault: Rcode): Query => ({
    id: message.readUInt16BE(0),
    flags,
    name: "",
    type: 0,
    question: NO_QUESTION,
    edns: undefined,
    fault,
  });
  if (message.length < HEADER_BYTES) return unread(Rcode.FormErr);
  if ((flags & OPCODE_MASK) !== 0) return unread(Rcode.NotImp);
  // One question and nothing answered yet, RFC 9619.
  if (message.readUInt32BE(4) !== 0x00010000) return unread(Rcode.FormErr);
  const nameEnd = endOfQuestionName(message);
  const questionEnd = nameEnd + 4;
  if (nameEnd < 0 || questionEnd > message.length) return unread(Rcode.FormErr);
  // Only a question for a zone's changes has an SOA record, which says since when, RFC 1995 section 3.
  const authorities = message.readUInt16BE(8);
  if (authorities > (message.readUInt16BE(nameEnd) === Type.IXFR ? 1 : 0)) return unread(Rcode.FormErr);
  const extra = parseRecords(message, questionEnd, authorities);
  if (extra === undefined) return unread(Rcode.FormErr);
  return {
    id: message.readUInt16BE(0),
    flags,
    name: nameText(message, nameEnd),
    type: message.readUInt16BE(nameEnd),
    question: message.subarray(HEADER_BYTES, questionEnd),
    edns: extra.edns,
    fault:
      extra.version !== 0
        ? Rcode.BadVers
        : message.readUInt16BE(nameEnd + 2) !== CLASS_IN
          ? Rcode.Refused
          : Rcode.NoError,
  };
}

/** Where the first name of a message ends; it has no pointer, for no name stands before it. -1 when it is malformed. */
function endOfQuestionName(message: Buffer): number {
  let offset = HEADER_BYTES;
  for (;;) {
    const length = message[offset];
    if (length === undefined || length > MAX_LABEL_BYTES) return -1;
    offset += 1 + length;
    if (offset - HEADER_BYTES > MAX_NAME_BYTES) return -1;
    if (length === 0) return offset;
  }
}

/** Where a name ends that may be compressed; -1 when it is malformed. Pointers are checked, not followed. */
export function skipName(message: Buffer, start: number): number {
  let offset = start;
  for (;;) {
    const length = message[offset];
    if (length === undefined || offset - start >= MAX_NAME_BYTES) return -1;
    if (length === 0) return offset + 1;
    if (length >= POINTER) {
      if (offset + 2 > message.length) return -1;
      const target = message.readUInt16BE(offset) & 0x3fff;
      // Only to a prior name, RFC 1035 section 4.1.4: so no chain of pointers is a loop.
      return target >= HEADER_BYTES && target < start ? offset + 2 : -1;
    }
    if (length > MAX_LABEL_BYTES) return -1;
    offset += 1 + length;
  }
}

const DOT = 0x2e;
const BACKSLASH = 0x5c;
/** Holds a name's text or the records of one response, and nothing between two calls. */
const scratch = Buffer.alloc(TCP_BYTES);

/** The question's name as text; its bounds were checked. */
function nameText(message: Buffer, nameEnd: number): string {
  let length = 0;
  for (let offset = HEADER_BYTES; offset < nameEnd - 1; ) {
    const labelEnd = offset + 1 + message[offset]!;
    if (length > 0) scratch[length++] = DOT;
    for (offset++; offset < labelEnd; offset++) {
      const byte = message[offset]!;
      if (byte === DOT || byte === BACKSLASH) scratch[length++] = BACKSLASH;
      scratch[length++] = byte >= 0x41 && byte <= 0x5a ? byte | 0x20 : byte;
    }
  }
  return scratch.toString("latin1", 0, length);
}

interface Extra {
  edns: Edns | undefined;
  version: number;
}

/** Reads the OPT record, if there is one. undefined: the records behind the question are malformed. */
function parseRecords(message: Buffer, start: number, authorities: number): Extra | undefined {
  const found: Extra = { edns: undefined, version: 0 };
  const count = authorities + message.readUInt16BE(10);
  let offset = start;
  for (let i = 0; i < count; i++) {
    const fixed = skipName(message, offset);
    if (fixed < 0 || fixed + RECORD_FIXED_BYTES > message.length) return undefined;
    const end = fixed + RECORD_FIXED_BYTES + message.readUInt16BE(fixed + 8);
    if (end > message.length) return undefined;
    if (message.readUInt16BE(fixed) === Type.OPT) {
      // At most one, additional, and its name is the root, RFC 6891 section 6.1.
      if (i < authorities || found.edns !== undefined || message[offset] !== 0) return undefined;
      if (!optionsFit(message, fixed + RECORD_FIXED_BYTES, end)) return undefined;
      found.edns = {
        udpBytes: message.readUInt16BE(fixed + 2),
        dnssecOk: (message.readUInt16BE(fixed + 6) & DNSSEC_OK) !== 0,
      };
      found.version = message[fixed + 5]!;
    }
    offset = end;
  }
  return offset === message.length ? found : undefined;
}

function optionsFit(message: Buffer, start: number, end: number): boolean {
  let offset = start;
  while (offset + 4 <= end) offset += 4 + message.readUInt16BE(offset + 2);
  return offset === end;
}

/** The bytes of the largest answer that a client that sent `query` in a datagram takes. */
export function udpLimit(query: Query): number {
  if (query.edns === undefined) return PLAIN_UDP_BYTES;
  return Math.min(UDP_BYTES, Math.max(PLAIN_UDP_BYTES, query.edns.udpBytes));
}

/**
 * The response in at most `limit` bytes (512 or more). What does not fit is cut off. In a datagram TC says so; over TCP it
 * does not, for that client has nowhere else to ask.
 */
export function encodeResponse(query: Query, answer: Answer, limit: number): Buffer {
  const room = limit - (query.edns === undefined ? 0 : OPT_BYTES) - HEADER_BYTES - query.question.length;
  const cutFlag = limit < TCP_BYTES ? Flag.TC : 0;
  switch (answer.kind) {
    case "addresses":
      return encodeAddresses(query, answer, room, cutFlag);
    case "services":
      return encodeServices(query, answer, room, cutFlag);
    case "negative":
      return encodeNegative(query, answer, room, cutFlag);
    case "records":
      return encodeRecords(query, answer, room, cutFlag);
    case "code":
      return startResponse(query, 0, 0, answer.rcode, [0, 0, 0]);
    case "message":
      return encodeMessage(query, answer, room, cutFlag);
  }
}

type Kind<K extends Answer["kind"]> = Extract<Answer, { kind: K }>;

const POINTER_BYTES = 2;
const ADDRESS_BYTES = 4;
const ADDRESS_RECORD_BYTES = POINTER_BYTES + RECORD_FIXED_BYTES + ADDRESS_BYTES;
const SRV_FIXED_BYTES = 6; // priority, weight, port
const SOA_FIXED_BYTES = 20; // serial, refresh, retry, expire, minimum

function encodeAddresses(query: Query, answer: Kind<"addresses">, room: number, cutFlag: number): Buffer {
  const { addresses, ttlSeconds } = answer;
  const count = Math.min(addresses.length, Math.floor(room / ADDRESS_RECORD_BYTES));
  const flags = count < addresses.length ? Flag.AA | cutFlag : Flag.AA;
  const response = startResponse(query, count * ADDRESS_RECORD_BYTES, flags, Rcode.NoError, [count, 0, 0]);
  let offset = HEADER_BYTES + query.question.length;
  for (let i = 0; i < count; i++) {
    offset = response.writeUInt16BE(QUESTION_POINTER, offset);
    offset = writeFixed(response, offset, Type.A, ttlSeconds, ADDRESS_BYTES);
    offset = response.writeInt32BE(addresses[i]!, offset);
  }
  return response;
}

/** SRV records, RFC 2782, and behind them the addresses of their targets, which are left out when there is no room, RFC 2181 section 9. */
function encodeServices(query: Query, answer: Kind<"services">, room: number, cutFlag: number): Buffer {
  const { targets, zone, port, ttlSeconds } = answer;
  const suffix = Buffer.alloc(zone.length + 2); // of every target's name; with the root behind it
  writeName(suffix, 0, zone);
  const nameBytes = (name: string): number => 1 + name.length + suffix.length;
  let offset = 0;
  let answers = 0;
  for (const { name } of targets) {
    const dataBytes = SRV_FIXED_BYTES + nameBytes(name);
    if (offset + POINTER_BYTES + RECORD_FIXED_BYTES + dataBytes > room) break;
    offset = scratch.writeUInt16BE(QUESTION_POINTER, offset);
    offset = writeFixed(scratch, offset, Type.SRV, ttlSeconds, dataBytes);
    offset = scratch.writeUInt32BE(0, offset); // no priority or weight: all are alike
    offset = scratch.writeUInt16BE(port, offset);
    offset = writeName(scratch, offset, name); // never compressed, RFC 2782
    offset += suffix.copy(scratch, offset);
    answers++;
  }
  let additionals = 0;
  for (; additionals < answers; additionals++) {
    const { name, address } = targets[additionals]!;
    if (offset + nameBytes(name) + RECORD_FIXED_BYTES + ADDRESS_BYTES > room) break;
    offset = writeName(scratch, offset, name);
    offset += suffix.copy(scratch, offset);
    offset = writeFixed(scratch, offset, Type.A, ttlSeconds, ADDRESS_BYTES);
    offset = scratch.writeInt32BE(address, offset);
  }
  const flags = Flag.AA | (answers < targets.length ? cutFlag : 0);
  return responseOf(query, scratch.subarray(0, offset), flags, Rcode.NoError, [answers, 0, additionals]);
}

function encodeNegative(query: Query, answer: Kind<"negative">, room: number, cutFlag: number): Buffer {
  const { rcode, zone, ttlSeconds, soa } = answer;
  let offset = writeWholeName(scratch, 0, zone);
  const dataAt = offset + RECORD_FIXED_BYTES;
  const namesEnd = writeWholeName(scratch, writeWholeName(scratch, dataAt, soa.mname), soa.rname);
  writeFixed(scratch, offset, Type.SOA, ttlSeconds, namesEnd + SOA_FIXED_BYTES - dataAt);
  offset = namesEnd;
  for (const field of [soa.serial, soa.refresh, soa.retry, soa.expire, soa.minimum])
    offset = scratch.writeUInt32BE(field ?? 0, offset);
  if (offset > room) return startResponse(query, 0, Flag.AA | cutFlag, rcode, [0, 0, 0]);
  return responseOf(query, scratch.subarray(0, offset), Flag.AA, rcode, [0, 1, 0]);
}

function encodeRecords(query: Query, { records }: Kind<"records">, room: number, cutFlag: number): Buffer {
  const parts: Buffer[] = [];
  let bytes = 0;
  for (const record of records) {
    const part = recordBytes(record);
    if (bytes + part.length > room) break;
    parts.push(part);
    bytes += part.length;
  }
  const flags = Flag.AA | (parts.length < records.length ? cutFlag : 0);
  return responseOf(query, Buffer.concat(parts), flags, Rcode.NoError, [parts.length, 0, 0]);
}

function recordBytes(record: DnsRecord): Buffer {
  const ofQuestion = record.name === "";
  const encoded = encode({ answers: [ofQuestion ? { ...record, name: "." } : record] }).subarray(HEADER_BYTES);
  if (!ofQuestion) return encoded;
  return Buffer.concat([Buffer.from([QUESTION_POINTER >> 8, QUESTION_POINTER & 255]), encoded.subarray(1)]);
}

/** An upstream's message under this query's id and spelling. The question has the same length, so its pointers hold. */
function encodeMessage(query: Query, { message }: Kind<"message">, room: number, cutFlag: number): Buffer {
  const upstream = message.readUInt16BE(2);
  const rcode = (upstream & 15) as Rcode;
  const records = message.subarray(HEADER_BYTES + query.question.length);
  // Over TCP the OPT record alone can be what is too much: then the answer cannot be given.
  if (records.length > room) return startResponse(query, 0, cutFlag, cutFlag === 0 ? Rcode.ServFail : rcode, [0, 0, 0]);
  const counts = [message.readUInt16BE(6), message.readUInt16BE(8), message.readUInt16BE(10)];
  return responseOf(query, records, upstream & Flag.AD, rcode, counts);
}

function responseOf(query: Query, records: Buffer, flags: number, rcode: Rcode, counts: readonly number[]): Buffer {
  const response = startResponse(query, records.length, flags, rcode, counts);
  records.copy(response, HEADER_BYTES + query.question.length);
  return response;
}

/** Header, question, room for `bytes` of records and, when the query had one, the OPT record at the end. */
function startResponse(query: Query, bytes: number, flags: number, rcode: Rcode, counts: readonly number[]): Buffer {
  const { edns, question } = query;
  const end = HEADER_BYTES + question.length + bytes;
  const response = Buffer.allocUnsafe(edns === undefined ? end : end + OPT_BYTES);
  const kept = query.flags & (OPCODE_MASK | Flag.RD | Flag.CD);
  response.writeUInt16BE(query.id, 0);
  response.writeUInt16BE(Flag.QR | Flag.RA | kept | flags | (rcode & 15), 2);
  response.writeUInt16BE(question.length === 0 ? 0 : 1, 4);
  response.writeUInt16BE(counts[0]!, 6);
  response.writeUInt16BE(counts[1]!, 8);
  response.writeUInt16BE(counts[2]! + (edns === undefined ? 0 : 1), 10);
  question.copy(response, HEADER_BYTES);
  if (edns !== undefined) writeOpt(response, end, rcode >> 4, edns.dnssecOk);
  return response;
}

/** The query that is sent upstream for `query`: its question and wishes under another id, with an OPT record of this server or none. */
export function encodeUpstreamQuery(query: Query, id: number, withEdns: boolean): Buffer {
  const bytes = HEADER_BYTES + query.question.length;
  const message = Buffer.alloc(withEdns ? bytes + OPT_BYTES : bytes);
  message.writeUInt16BE(id, 0);
  message.writeUInt16BE(Flag.RD | (query.flags & (Flag.AD | Flag.CD)), 2);
  message.writeUInt16BE(1, 4);
  message.writeUInt16BE(withEdns ? 1 : 0, 10);
  query.question.copy(message, HEADER_BYTES);
  if (withEdns) writeOpt(message, bytes, 0, query.edns?.dnssecOk ?? false);
  return message;
}

function writeOpt(message: Buffer, offset: number, extendedRcode: number, dnssecOk: boolean): void {
  message[offset] = 0;
  message.writeUInt16BE(Type.OPT, offset + 1);
  message.writeUInt16BE(UDP_BYTES, offset + 3);
  message[offset + 5] = extendedRcode;
  message[offset + 6] = 0; // version
  message.writeUInt16BE(dnssecOk ? DNSSEC_OK : 0, offset + 7);
  message.writeUInt16BE(0, offset + 9);
}

/** Returns where the data begins. */
function writeFixed(to: Buffer, offset: number, type: number, ttlSeconds: number, dataBytes: number): number {
  to.writeUInt32BE((type << 16) | CLASS_IN, offset);
  to.writeUInt32BE(ttlSeconds, offset + 4);
  return to.writeUInt16BE(dataBytes, offset + 8);
}

/** A name with the root behind it; "" is the root. Returns where it ends. */
function writeWholeName(to: Buffer, start: number, name: string): number {
  return to.writeUInt8(0, name === "" ? start : writeName(to, start, name));
}

/** Labels of ASCII, without the root. Returns where they end. */
function writeName(to: Buffer, start: number, name: string): number {
  let lengthAt = start;
  for (let i = 0; i < name.length; i++) {
    const code = name.charCodeAt(i);
    if (code === DOT) {
      to[lengthAt] = start + i - lengthAt;
      lengthAt = start + 1 + i;
    } else to[start + 1 + i] = code;
  }
  const end = start + 1 + name.length;
  to[lengthAt] = end - lengthAt - 1;
  return end;
}
