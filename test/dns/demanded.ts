// What the RFCs demand of a server that is sent a message, read independently of src/dns: a cursor that throws where the
// message breaks off or breaks a rule. "answered": it is a query that is about its name.

export type Demanded = "silence" | "FORMERR" | "NOTIMP" | "REFUSED" | "BADVERS" | "answered";

export interface Demand {
  readonly is: Demanded;
  /** Bytes that the answer may have in a datagram. */
  readonly mostBytes: number;
  /** Whether the answer has an OPT record: when the query has one, and only then, RFC 6891 section 6.1.1. */
  readonly edns: boolean;
}

class Malformed extends Error {}

class Cursor {
  readonly #message: Buffer;
  at = 0;

  constructor(message: Buffer) {
    this.#message = message;
  }

  take(bytes: number): Buffer {
    const taken = this.#message.subarray(this.at, this.at + bytes);
    if (taken.length < bytes) throw new Malformed();
    this.at += bytes;
    return taken;
  }

  number(bytes: 1 | 2): number {
    return this.take(bytes).readUIntBE(0, bytes);
  }

  /** RFC 1035 sections 3.1 and 4.1.4. Whether it is the root. */
  name(mayPoint: boolean): boolean {
    const start = this.at;
    for (let first = true; ; first = false) {
      const length = this.number(1);
      if (length === 0) {
        if (this.at - start > 255) throw new Malformed();
        return first;
      }
      if (length >> 6 === 3) {
        const target = ((length & 63) << 8) | this.number(1);
        if (!mayPoint || target < 12 || target >= start) throw new Malformed();
        return false;
      }
      if (length >> 6 !== 0) throw new Malformed();
      this.take(length);
      if (this.at - start >= 255) throw new Malformed();
    }
  }

  get isAtEnd(): boolean {
    return this.at === this.#message.length;
  }
}

const NONE = { mostBytes: 512, edns: false };

export function demandedOf(message: Buffer): Demand {
  if (message.length < 4) return { is: "silence", ...NONE }; // no id to answer under, or no flags to say what it is
  const flags = message.readUInt16BE(2);
  if (flags >> 15 === 1) return { is: "silence", ...NONE }; // or two servers would answer each other for ever
  if (message.length < 12) return { is: "FORMERR", ...NONE };
  if (((flags >> 11) & 15) !== 0) return { is: "NOTIMP", ...NONE }; // RFC 1035 section 4.1.1
  try {
    return demandedOfQuery(new Cursor(message));
  } catch (error) {
    if (!(error instanceof Malformed)) throw error;
    return { is: "FORMERR", ...NONE };
  }
}

function demandedOfQuery(cursor: Cursor): Demand {
  cursor.take(4);
  const [questions, answers, authorities, additionals] = [2, 2, 2, 2].map(() => cursor.number(2));
  if (questions !== 1 || answers !== 0) throw new Malformed(); // RFC 9619 section 4
  cursor.name(false);
  const [type, ofClass] = [cursor.number(2), cursor.number(2)];
  if (authorities! > (type === 251 ? 1 : 0)) throw new Malformed(); // IXFR's SOA, RFC 1995 section 3
  let opt: { bytes: number; version: number } | undefined;
  for (let i = 0; i < authorities! + additionals!; i++) {
    const isRoot = cursor.name(true);
    const [recordType, recordClass] = [cursor.number(2), cursor.number(2)];
    const ttl = cursor.take(4);
    const data = new Cursor(cursor.take(cursor.number(2)));
    if (recordType !== 41) continue;
    if (opt !== undefined || !isRoot || i < authorities!) throw new Malformed(); // RFC 6891 section 6.1.1
    opt = { bytes: recordClass, version: ttl[1]! };
    while (!data.isAtEnd) {
      data.take(2);
      data.take(data.number(2));
    }
  }
  if (!cursor.isAtEnd) throw new Malformed();
  // RFC 6891 section 6.2.3: less than 512 means 512. What we send is never fragmented.
  const limits = {
    mostBytes: opt === undefined ? 512 : Math.min(1232, Math.max(512, opt.bytes)),
    edns: opt !== undefined,
  };
  if (opt !== undefined && opt.version !== 0) return { is: "BADVERS", ...limits }; // RFC 6891 section 6.1.3
  // Other classes than the Internet's, and zone transfers, nobody is given.
  return { is: ofClass !== 1 || type === 251 || type === 252 ? "REFUSED" : "answered", ...limits };
}
