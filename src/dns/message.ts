// DNS queries, RFC 1035 section 4, with EDNS0, RFC 6891. parseQuery() checks every bound once and says what is wrong;
// what is answered is an Answer, which encode.ts writes.
import type { Answer as PacketRecord } from "dns-packet";
import type { Ipv4 } from "../lib/ip.ts";

export const HEADER_BYTES = 12;
export const RECORD_FIXED_BYTES = 10; // type, class, TTL, length
/** An OPT record without options. */
export const OPT_BYTES = 11;
const MAX_NAME_BYTES = 255;
const MAX_LABEL_BYTES = 63;
const POINTER = 0xc0;
/** A compressed name: the question's. */
export const QUESTION_POINTER = (POINTER << 8) | HEADER_BYTES;

export const Flag = { QR: 0x8000, AA: 0x0400, TC: 0x0200, RD: 0x0100, RA: 0x0080, AD: 0x0020, CD: 0x0010 } as const;
export const OPCODE_MASK = 0x7800;
export const DNSSEC_OK = 0x8000;

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
export const CLASS_IN = 1;

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

/** The largest datagram that we send or ask for: below every usual MTU, so that nothing is fragmented. */
export const UDP_BYTES = 1232;
/** What a resolver without EDNS takes, RFC 1035 section 2.3.4. */
const PLAIN_UDP_BYTES = 512;
export const TCP_BYTES = 65535;

export interface Edns {
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
  /** NoError: it can be answered. Otherwise what to answer it with. */
  readonly fault: Rcode;
}

/** A record that dns-packet writes. Its name "" is the question's own, in the letter case asked. */
export type DnsRecord = PacketRecord;

export type Answer =
  /** A records of the question's own name. */
  | { readonly kind: "addresses"; readonly addresses: readonly Ipv4[]; readonly ttlSeconds: number }
  | {
      readonly kind: "records";
      readonly rcode: Rcode;
      readonly authoritative: boolean;
      readonly answers: readonly DnsRecord[];
      readonly authorities: readonly DnsRecord[];
    }
  /** SRV records of the question's own name, and the addresses of what they name. */
  | {
      readonly kind: "services";
      readonly targets: readonly { readonly name: string; readonly address: Ipv4 }[];
      /** What the targets' names are under. */
      readonly zone: string;
      readonly port: number;
      readonly ttlSeconds: number;
    }
  /** An upstream's whole message to the same question, without OPT. */
  | { readonly kind: "message"; readonly message: Buffer };

/** An answer that is a response code and nothing more. */
export function codeOnly(rcode: Rcode): Answer {
  return { kind: "records", rcode, authoritative: false, answers: [], authorities: [] };
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
  // Only who asks for a zone's changes says since when, by an SOA record, RFC 1995 section 3.
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

/** The first name of a message: nothing stands before it that a pointer could mean. -1 when it is malformed. */
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
const scratch = Buffer.alloc(2 * MAX_NAME_BYTES);

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

/** The OPT record, if there is one; undefined when the records behind the question are malformed. */
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

/** The largest answer that whoever sent `query` in a datagram takes. */
export function udpLimit(query: Query): number {
  if (query.edns === undefined) return PLAIN_UDP_BYTES;
  return Math.min(UDP_BYTES, Math.max(PLAIN_UDP_BYTES, query.edns.udpBytes));
}
