// Writes DNS messages: responses to our askers, and our own queries to the resolvers above. Address records, the common
// answer, are written by hand; the data of other records by dns-packet.
import { encode } from "dns-packet";
import type { Ipv4 } from "../lib/ip.ts";
import {
  type Answer,
  CLASS_IN,
  DNSSEC_OK,
  type DnsRecord,
  Flag,
  HEADER_BYTES,
  OPCODE_MASK,
  type Query,
  Rcode,
  Type,
  UDP_BYTES,
} from "./codec.ts";

const ADDRESS_RECORD_BYTES = 16;
const OPT_BYTES = 11;
/** A compressed name: the question's. */
const QUESTION_POINTER = 0xc000 | HEADER_BYTES;

/** The response in at most `limit` bytes (512 or more). What does not fit is cut off and TC says so. */
export function encodeResponse(query: Query, answer: Answer, limit: number): Buffer {
  const room = limit - (query.edns === undefined ? 0 : OPT_BYTES);
  if (answer.kind === "addresses") return encodeAddresses(query, answer.addresses, answer.ttlSeconds, room);
  if (answer.kind === "message") return encodeMessage(query, answer.message, room);

  const sections = [answer.answers, answer.authorities, answer.additionals];
  const parts: Buffer[] = [];
  const counts = [0, 0, 0];
  let bytes = HEADER_BYTES + query.question.length;
  let truncated = false;
  sections.forEach((records, section) => {
    for (const record of records) {
      if (truncated) return;
      const part = recordBytes(record);
      if (bytes + part.length > room) {
        truncated = section < 2;
        return;
      }
      parts.push(part);
      bytes += part.length;
      counts[section]!++;
    }
  });
  const flags = (answer.authoritative ? Flag.AA : 0) | (truncated ? Flag.TC : 0);
  const response = startResponse(query, bytes, flags, answer.rcode, counts);
  let offset = HEADER_BYTES + query.question.length;
  for (const part of parts) offset += part.copy(response, offset);
  return response;
}

function encodeAddresses(query: Query, addresses: readonly Ipv4[], ttlSeconds: number, room: number): Buffer {
  let offset = HEADER_BYTES + query.question.length;
  const count = Math.min(addresses.length, Math.floor((room - offset) / ADDRESS_RECORD_BYTES));
  const flags = count < addresses.length ? Flag.AA | Flag.TC : Flag.AA;
  const response = startResponse(query, offset + count * ADDRESS_RECORD_BYTES, flags, Rcode.NoError, [count, 0, 0]);
  for (let i = 0; i < count; i++) {
    response.writeUInt16BE(QUESTION_POINTER, offset);
    response.writeUInt32BE((Type.A << 16) | CLASS_IN, offset + 2);
    response.writeUInt32BE(ttlSeconds, offset + 6);
    response.writeUInt16BE(4, offset + 10);
    response.writeInt32BE(addresses[i]!, offset + 12);
    offset += ADDRESS_RECORD_BYTES;
  }
  return response;
}

/** An upstream's message under this query's id and spelling. Same length of question, so its pointers hold. */
function encodeMessage(query: Query, message: Buffer, room: number): Buffer {
  const upstream = message.readUInt16BE(2);
  const rcode = (upstream & 15) as Rcode;
  const start = HEADER_BYTES + query.question.length;
  if (message.length > room) return startResponse(query, start, Flag.TC, rcode, [0, 0, 0]);
  const counts = [message.readUInt16BE(6), message.readUInt16BE(8), message.readUInt16BE(10)];
  const response = startResponse(query, message.length, upstream & Flag.AD, rcode, counts);
  message.copy(response, start, start);
  return response;
}

/** Header, question and, when the query had one, the OPT record at the end; `bytes` is the length without that. */
function startResponse(query: Query, bytes: number, flags: number, rcode: Rcode, counts: readonly number[]): Buffer {
  const { edns, question } = query;
  const response = Buffer.allocUnsafe(edns === undefined ? bytes : bytes + OPT_BYTES);
  const kept = query.flags & (OPCODE_MASK | Flag.RD | Flag.CD);
  response.writeUInt16BE(query.id, 0);
  response.writeUInt16BE(Flag.QR | Flag.RA | kept | flags | (rcode & 15), 2);
  response.writeUInt16BE(question.length === 0 ? 0 : 1, 4);
  response.writeUInt16BE(counts[0]!, 6);
  response.writeUInt16BE(counts[1]!, 8);
  response.writeUInt16BE(counts[2]! + (edns === undefined ? 0 : 1), 10);
  question.copy(response, HEADER_BYTES);
  if (edns !== undefined) writeOpt(response, bytes, rcode >> 4, edns.dnssecOk);
  return response;
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

function recordBytes(record: DnsRecord): Buffer {
  const ofQuestion = record.name === "";
  const encoded = encode({ answers: [ofQuestion ? { ...record, name: "." } : record] }).subarray(HEADER_BYTES);
  if (!ofQuestion) return encoded;
  return Buffer.concat([Buffer.from([QUESTION_POINTER >> 8, QUESTION_POINTER & 255]), encoded.subarray(1)]);
}

/** The query that we send upstream for `query`: its question and wishes under our id, and our own OPT or none. */
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
