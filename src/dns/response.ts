// Responses of the resolvers that this node asks: checked record by record before anything of them is kept or passed on.
import { Flag, HEADER_BYTES, type Query, Rcode, RECORD_FIXED_BYTES, skipName, Type } from "./message.ts";

export interface Response {
  /** The whole message without its OPT record, in memory of its own. */
  readonly message: Buffer;
  /** With its upper bits from the OPT record. */
  readonly rcode: number;
  readonly truncated: boolean;
  /** The offset of each record's TTL. */
  readonly ttlOffsets: readonly number[];
  /** The time that it may be kept: the least TTL, or for a negative answer what its SOA says, RFC 2308. 0: not at all. */
  readonly ttlSeconds: number;
}

const MAX_NEGATIVE_TTL_SECONDS = 900;
const SOA_MINIMUM_BYTES = 4;
const SECTION_COUNT_OFFSETS = [6, 8, 10] as const;
const ANSWER = 0;
const AUTHORITY = 1;
const ADDITIONAL = 2;
const TTL_OFFSET = 4;

/** Reads a response to `query`, which was sent as `id`. undefined: not a response to it, or malformed. */
export function parseResponse(bytes: Uint8Array, query: Query, id: number): Response | undefined {
  // A copy in memory of its own: a message that is kept would keep alive all of a memory that it shares.
  const message = Buffer.allocUnsafeSlow(bytes.length);
  message.set(bytes);
  const start = HEADER_BYTES + query.question.length;
  if (message.length < HEADER_BYTES || message.readUInt16BE(0) !== id) return undefined;
  const flags = message.readUInt16BE(2);
  if ((flags & Flag.QR) === 0) return undefined;
  const rcode = flags & 15;
  const truncated = (flags & Flag.TC) !== 0;
  if (!sameQuestion(message, query)) {
    // A server that could not read the question may leave it out of its error response.
    const isError = message.readUInt16BE(4) === 0 && rcode !== Rcode.NoError && rcode !== Rcode.NXDomain;
    return isError ? { message, rcode, truncated, ttlOffsets: [], ttlSeconds: 0 } : undefined;
  }
  if (truncated) return { message, rcode, truncated, ttlOffsets: [], ttlSeconds: 0 };
  return parseRecords(message, start, rcode, query.type);
}

/** Equal but for letter case; a length byte is below 64 and so no letter. */
function sameQuestion(message: Buffer, { question }: Query): boolean {
  if (message.readUInt16BE(4) !== 1 || message.length < HEADER_BYTES + question.length) return false;
  const nameEnd = question.length - 4;
  for (let i = 0; i < question.length; i++) {
    const received = message[HEADER_BYTES + i]!;
    const asked = question[i]!;
    if (received !== asked && (i >= nameEnd || lower(received) !== lower(asked))) return false;
  }
  return true;
}

function lower(byte: number): number {
  return byte >= 0x41 && byte <= 0x5a ? byte | 0x20 : byte;
}

interface Located {
  readonly section: number;
  /** The offset of its type, after the name. */
  readonly fixed: number;
  readonly type: number;
  readonly end: number;
}

function parseRecords(message: Buffer, start: number, rcode: number, type: number): Response | undefined {
  const located = locateRecords(message, start);
  if (located === undefined) return undefined;
  const opt = located.find((record) => record.type === Type.OPT);
  if (opt !== undefined && opt.section !== ADDITIONAL) return undefined;
  const wholeRcode = opt === undefined ? rcode : (message[opt.fixed + 4]! << 4) | rcode; // RFC 6891 section 6.1.3
  // Records behind OPT would move if it were taken out, and others may point into them: they go with it.
  const kept = opt === undefined ? located : located.slice(0, located.indexOf(opt));
  message.writeUInt16BE(kept.filter(({ section }) => section === ADDITIONAL).length, SECTION_COUNT_OFFSETS[ADDITIONAL]);
  return {
    message: message.subarray(0, kept.at(-1)?.end ?? start),
    rcode: wholeRcode,
    truncated: false,
    ttlOffsets: kept.map(({ fixed }) => fixed + TTL_OFFSET),
    ttlSeconds: lifetime(message, kept, wholeRcode, type),
  };
}

function locateRecords(message: Buffer, start: number): Located[] | undefined {
  const located: Located[] = [];
  let offset = start;
  for (const [section, countOffset] of SECTION_COUNT_OFFSETS.entries()) {
    for (let left = message.readUInt16BE(countOffset); left > 0; left--) {
      const fixed = skipName(message, offset);
      if (fixed < 0 || fixed + RECORD_FIXED_BYTES > message.length) return undefined;
      const end = fixed + RECORD_FIXED_BYTES + message.readUInt16BE(fixed + 8);
      if (end > message.length) return undefined;
      located.push({ section, fixed, type: message.readUInt16BE(fixed), end });
      offset = end;
    }
  }
  return located;
}

function lifetime(message: Buffer, records: readonly Located[], rcode: number, type: number): number {
  const answers = records.filter(({ section }) => section === ANSWER);
  const least = (of: readonly Located[]) => Math.min(...of.map(({ fixed }) => ttlAt(message, fixed + TTL_OFFSET)));
  const isPositive = answers.some((answer) => answer.type === type || type === Type.ANY);
  if (rcode === Rcode.NoError && isPositive) return least(records);
  if (rcode !== Rcode.NoError && rcode !== Rcode.NXDomain) return 0;
  const soa = records.find((record) => record.section === AUTHORITY && record.type === Type.SOA);
  if (soa === undefined || soa.end - SOA_MINIMUM_BYTES < soa.fixed + RECORD_FIXED_BYTES) return 0;
  const minimum = ttlAt(message, soa.end - SOA_MINIMUM_BYTES);
  // The aliases (CNAME) that lead to the missing name count too.
  const seconds = Math.min(least([...answers, soa]), minimum, MAX_NEGATIVE_TTL_SECONDS);
  message.writeUInt32BE(seconds, soa.fixed + TTL_OFFSET); // RFC 2308 section 5: a cache counts down from it
  return seconds;
}

/** RFC 2181 section 8: the highest bit set means 0. */
function ttlAt(message: Buffer, offset: number): number {
  const ttl = message.readUInt32BE(offset);
  return ttl > 0x7fffffff ? 0 : ttl;
}

/** A copy of the message with every TTL lowered by `ageSeconds` and at most `mostSeconds`. */
export function aged(response: Response, ageSeconds: number, mostSeconds: number): Buffer {
  const message = Buffer.from(response.message);
  for (const offset of response.ttlOffsets) {
    const ttl = Math.max(0, ttlAt(message, offset) - ageSeconds);
    message.writeUInt32BE(Math.min(ttl, mostSeconds), offset);
  }
  return message;
}
