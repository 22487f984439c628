// The end of a file that a task appends to, as a stream that may go on as the file grows.
import { type FileHandle, open } from "node:fs/promises";
import { Readable } from "node:stream";
import type { Clock, Timer } from "../lib/clock.ts";

const BLOCK_BYTES = 64 << 10;
const LOOK_MS = 100;
const NEWLINE = 10;

interface TailOptions {
  /** Whether the stream goes on with what is appended; a file that was cut is read from its start. */
  follow: boolean;
  /** How many of the last lines, at most; null: all. */
  tail: number | null;
  clock: Clock;
}

/** Throws when there is no such file. */
export async function readTail(path: string, { follow, tail, clock }: TailOptions): Promise<Readable> {
  const file = await open(path);
  const from = tail === null ? 0 : await startOfLast(file, tail);
  return new LogFile(file, from, follow ? clock : undefined);
}

class LogFile extends Readable {
  readonly #file: FileHandle;
  /** undefined: it ends where the file does. */
  readonly #clock: Clock | undefined;
  #position: number;
  #timer: Timer | undefined;

  constructor(file: FileHandle, position: number, clock: Clock | undefined) {
    super();
    this.#file = file;
    this.#position = position;
    this.#clock = clock;
  }

  override _read(): void {
    this.#readOn().catch((error: Error) => this.destroy(error));
  }

  override _destroy(error: Error | null, done: (error?: Error | null) => void): void {
    this.#timer?.cancel();
    this.#file.close().then(() => done(error), done);
  }

  async #readOn(): Promise<void> {
    const { buffer, bytesRead } = await this.#file.read(Buffer.alloc(BLOCK_BYTES), 0, BLOCK_BYTES, this.#position);
    if (this.destroyed) return;
    if (bytesRead > 0) {
      this.#position += bytesRead;
      this.push(buffer.subarray(0, bytesRead));
    } else if (this.#clock === undefined) {
      this.push(null);
    } else {
      if ((await this.#file.stat()).size < this.#position) this.#position = 0;
      this.#timer = this.#clock.after(LOOK_MS, () => this._read());
    }
  }
}

/** Where the last `lines` lines begin. */
async function startOfLast(file: FileHandle, lines: number): Promise<number> {
  const { size } = await file.stat();
  if (lines === 0) return size;
  let found = 0;
  // The newline that ends the file begins no line.
  for (let end = size - 1; end > 0; ) {
    const start = Math.max(0, end - BLOCK_BYTES);
    const { buffer } = await file.read(Buffer.alloc(end - start), 0, end - start, start);
    for (let at = buffer.length - 1; at >= 0; at--) {
      if (buffer[at] === NEWLINE && ++found === lines) return start + at + 1;
    }
    end = start;
  }
  return 0;
}
