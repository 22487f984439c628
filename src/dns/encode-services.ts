// Writes SRV records, RFC 2782, and behind them the addresses of what they name. By hand, for a service may have
// thousands of tasks.
import { type Answer, CLASS_IN, QUESTION_POINTER, RECORD_FIXED_BYTES, TCP_BYTES, Type } from "./message.ts";

const POINTER_BYTES = 2;
const SRV_FIXED_BYTES = 6; // priority, weight, port
const ADDRESS_BYTES = 4;
const DOT = 0x2e;

type Services = Extract<Answer, { kind: "services" }>;

export interface EncodedServices {
  /** Valid until the next call. */
  readonly records: Buffer;
  readonly answers: number;
  /** Addresses, left out when there is no room, RFC 2181 section 9. */
  readonly additionals: number;
}

const scratch = Buffer.alloc(TCP_BYTES);

/** As many records as are whole in `room` bytes. */
export function encodeServices({ targets, zone, port, ttlSeconds }: Services, room: number): EncodedServices {
  const suffix = Buffer.alloc(zone.length + 2); // of every target's name; with the root behind it
  writeName(suffix, 0, zone);
  const nameBytes = (name: string): number => 1 + name.length + suffix.length;
  let offset = 0;
  let answers = 0;
  for (const { name } of targets) {
    const dataBytes = SRV_FIXED_BYTES + nameBytes(name);
    if (offset + POINTER_BYTES + RECORD_FIXED_BYTES + dataBytes > room) break;
    offset = scratch.writeUInt16BE(QUESTION_POINTER, offset);
    offset = writeFixed(offset, Type.SRV, ttlSeconds, dataBytes);
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
    offset = writeFixed(offset, Type.A, ttlSeconds, ADDRESS_BYTES);
    offset = scratch.writeInt32BE(address, offset);
  }
  return { records: scratch.subarray(0, offset), answers, additionals };
}

/** Returns where the data begin. */
function writeFixed(offset: number, type: number, ttlSeconds: number, dataBytes: number): number {
  scratch.writeUInt32BE((type << 16) | CLASS_IN, offset);
  scratch.writeUInt32BE(ttlSeconds, offset + 4);
  return scratch.writeUInt16BE(dataBytes, offset + 8);
}

/** Labels of ASCII, without the root; returns where they end. */
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
