// Writes DNS messages: responses to our askers, and our own queries to the resolvers above. Address records, the common
// answer, are written by hand, SRV in encode-services.ts, the data of other records by dns-packet.
import { encode } from "dns-packet";
import type { Ipv4 } from "../lib/ip.ts";
import { encodeServices } from "./encode-services.ts";
import {
  type Answer,
  CLASS_IN,
  DNSSEC_OK,
  type DnsRecord,
  Flag,
  HEADER_BYTES,
  OPCODE_MASK,
  OPT_BYTES,
  QUESTION_POINTER,
  type Query,
  Rcode,
  TCP_BYTES,
  Type,
  UDP_BYTES,
} from "./message.ts";

type Records = Extract<Answer, { kind: "records" }>;

const ADDRESS_RECORD_BYTES = 16;

/**
 * The response in at most `limit` bytes (512 or more). What does not fit is cut off, and TC says so: over TCP it does
 * not, for who asked there has nowhere else to ask.
 */
export function encodeResponse(query: Query, answer: Answer, limit: number): Buffer {
  const room = limit - (query.edns === undefined ? 0 : OPT_BYTES) - HEADER_BYTES - query.question.length;
  const cutFlag = limit < TCP_BYTES ? Flag.TC : 0;
  switch (answer.kind) {
    case "addresses":
      return encodeAddresses(query, answer.addresses, answer.ttlSeconds, room, cutFlag);
    case "services": {
      const { records, answers, additionals } = encodeServices(answer, room);
      const flags = Flag.AA | (answers < answer.targets.length ? cutFlag : 0);
      const response = startResponse(query, records.length, flags, Rcode.NoError, [answers, 0, additionals]);
      records.copy(response, HEADER_BYTES + query.question.length);
      return response;
    }
    case "records":
      return encodeRecords(query, answer, room, cutFlag);
    case "message":
      return encodeMessage(query, answer.message, room, cutFlag);
  }
}

function encodeRecords(query: Query, answer: Records, room: number, cutFlag: number): Buffer {
  const parts: Buffer[] = [];
  const counts = [0, 0, 0];
  let bytes = 0;
  let isCut = false;
  for (const [section, records] of [answer.answers, answer.authorities].entries()) {
    for (const record of records) {
      const part = recordBytes(record);
      isCut ||= bytes + part.length > room;
      if (isCut) break;
      parts.push(part);
      bytes += part.length;
      counts[section]!++;
    }
  }
  const flags = (answer.authoritative ? Flag.AA : 0) | (isCut ? cutFlag : 0);
  const response = startResponse(query, bytes, flags, answer.rcode, counts);
  let offset = HEADER_BYTES + query.question.length;
  for (const part of parts) offset += part.copy(response, offset);
  return response;
}

function encodeAddresses(
  query: Query,
  addresses: readonly Ipv4[],
  ttlSeconds: number,
  room: number,
  cutFlag: number,
): Buffer {
  const count = Math.min(addresses.length, Math.floor(room / ADDRESS_RECORD_BYTES));
  const flags = count < addresses.length ? Flag.AA | cutFlag : Flag.AA;
  const response = startResponse(query, count * ADDRESS_RECORD_BYTES, flags, Rcode.NoError, [count, 0, 0]);
  let offset = HEADER_BYTES + query.question.length;
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
function encodeMessage(query: Query, message: Buffer, room: number, cutFlag: number): Buffer {
  const upstream = message.readUInt16BE(2);
  const rcode = (upstream & 15) as Rcode;
  const start = HEADER_BYTES + query.question.length;
  const bytes = message.length - start;
  // Over TCP only our OPT can be what is too much: then the answer cannot be told.
  if (bytes > room) return startResponse(query, 0, cutFlag, cutFlag === 0 ? Rcode.ServFail : rcode, [0, 0, 0]);
  const counts = [message.readUInt16BE(6), message.readUInt16BE(8), message.readUInt16BE(10)];
  const response = startResponse(query, bytes, upstream & Flag.AD, rcode, counts);
  message.copy(response, start, start);
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
