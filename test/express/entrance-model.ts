// The rules of the program at the node's links in plain words: whether a frame is led to the agent. It shares nothing with the program.
import type { EntranceRow } from "../../src/express/entrances.ts";
import { Entrance } from "../../src/express/layout.ts";

const TCP = 6;
const UDP = 17;
const ICMP = 1;
const word = (bytes: Uint8Array, at: number): number => (bytes[at]! << 8) | bytes[at + 1]!;
const int32 = (bytes: Uint8Array, at: number): number => (word(bytes, at) << 16) | word(bytes, at + 2) | 0;

/** Whom a packet belongs to: the client's end and this node's. */
interface Ends {
  protocol: number;
  client: number;
  own: number;
  clientPort: number;
  ownPort: number;
}

export class EntranceModel {
  readonly #rows: readonly EntranceRow[];
  readonly #link: number;
  /** Whether the overlay has the address. */
  readonly #isInPool: (address: number) => boolean;
  /** The TCP connections that were led. BOUNDED: by the test. */
  readonly #led = new Set<string>();

  /** All frames come by the link with the index `link`. */
  constructor(rows: readonly EntranceRow[], link: number, isInPool: (address: number) => boolean) {
    this.#rows = rows;
    this.#link = link;
    this.#isInPool = isInPool;
  }

  /** Takes a frame while the lane is on. */
  leads(frame: Uint8Array): boolean {
    if (frame.length < 42 || word(frame, 12) !== 0x0800 || frame[14] !== 0x45) return false;
    if (frame.subarray(0, 6).some((byte) => byte !== 0)) return false; // the loopback device has this MAC
    if ((word(frame, 20) & 0x3fff) !== 0) return false;
    const ends = endsOf(frame);
    if (ends === undefined || !this.#isEntrance(ends)) return false;
    const sender = int32(frame, 26);
    const first = sender >>> 24;
    if (first === 0 || first === 127 || first >= 224 || this.#isInPool(sender) || this.#isOwn(sender)) return false;
    if (ends.protocol === UDP) return true;
    const key = `${ends.client}:${ends.clientPort} ${ends.own}:${ends.ownPort}`;
    if (frame[23] === ICMP) return this.#led.has(key);
    if (frame.length < 54) return false;
    if ((frame[47]! & 0x17) === 0x02) this.#led.add(key);
    return this.#led.has(key);
  }

  #isEntrance({ protocol, own, ownPort }: Ends): boolean {
    const find = (address: number): EntranceRow | undefined =>
      this.#rows.find((row) => row.address === address && row.port === ownPort && row.protocol === protocol);
    const row = find(own) ?? find(0);
    if (row?.kind !== Entrance.Led || (row.link !== 0 && row.link !== this.#link)) return false;
    return this.#isOwn(own);
  }

  #isOwn(address: number): boolean {
    return this.#rows.some((row) => row.kind === Entrance.OwnAddress && row.address === address);
  }
}

function endsOf(frame: Uint8Array): Ends | undefined {
  const [sender, own] = [int32(frame, 26), int32(frame, 30)];
  const protocol = frame[23]!;
  if (protocol === TCP || protocol === UDP) {
    return { protocol, client: sender, own, clientPort: word(frame, 34), ownPort: word(frame, 36) };
  }
  if (protocol !== ICMP || ![3, 11, 12].includes(frame[34]!) || frame.length < 70) return undefined;
  const quoted = frame.subarray(42);
  const inner = quoted[9]!;
  if (quoted[0] !== 0x45 || int32(quoted, 12) !== own || (inner !== TCP && inner !== UDP)) return undefined;
  return { protocol: inner, client: int32(quoted, 16), own, clientPort: word(quoted, 22), ownPort: word(quoted, 20) };
}
