// Lines down one node's connection, as fast as its link takes them. A snapshot is encoded while it is taken, so that a
// slow link holds a piece of it and not all; changes that come meanwhile follow it.
import type { ServerResponse } from "node:http";
import { systemClock, type Timer } from "../lib/clock.ts";
import { messageOf } from "../lib/errors.ts";
import type { Log } from "../lib/log.ts";
import type { SessionSink } from "./sessions.ts";

/** A node that takes so little of what changes is cut off: it comes back for a snapshot. */
const MAX_UNSENT_BYTES = 64 * 1024 * 1024;
/** Lines that follow the last piece sooner than this wait for each other, and go as one piece: both ends pay for each piece. */
const GATHER_MS = 4;

export class LineSink implements SessionSink {
  readonly #response: ServerResponse;
  readonly #log: Log;
  /** The rest of a snapshot; undefined: all of it is sent. */
  #snapshot: Iterator<Buffer> | undefined;
  // BOUNDED: by MAX_UNSENT_BYTES. Lines that follow the snapshot, or the last piece.
  #later: Buffer[] = [];
  #laterBytes = 0;
  #sentAt = Number.NEGATIVE_INFINITY;
  #gathering: Timer | undefined;

  constructor(response: ServerResponse, log: Log) {
    this.#response = response;
    this.#log = log;
    response.on("error", (error) => log.debug("a session's stream broke", { reason: messageOf(error) }));
    response.on("drain", () => this.#sendSnapshot());
    response.on("close", () => this.#forget());
  }

  send(line: Buffer): void {
    if (this.#response.destroyed) return;
    this.#later.push(line);
    this.#laterBytes += line.length;
    if (this.#snapshot === undefined) this.#sendLater();
    if (this.#response.writableLength + this.#laterBytes <= MAX_UNSENT_BYTES) return;
    this.#log.warn("a node takes nothing of its session; cutting it off");
    this.#response.destroy();
  }

  sendSnapshot(lines: Iterator<Buffer>): void {
    this.#flush();
    this.#snapshot = lines;
    this.#sendSnapshot();
  }

  close(): void {
    this.#response.destroy();
  }

  #sendSnapshot(): void {
    while (this.#snapshot !== undefined && !this.#response.destroyed) {
      const { value, done } = this.#snapshot.next();
      if (done === true) {
        this.#snapshot = undefined;
        this.#flush();
      } else if (!this.#write(value)) return;
    }
  }

  /** At once, or together with what comes until the gap to the last piece has passed. */
  #sendLater(): void {
    if (this.#gathering !== undefined) return;
    const leftMs = this.#sentAt + GATHER_MS - systemClock.monotonic();
    if (leftMs <= 0) this.#flush();
    else this.#gathering = systemClock.after(leftMs, () => this.#flush());
  }

  #flush(): void {
    this.#gathering?.cancel();
    this.#gathering = undefined;
    if (this.#snapshot !== undefined || this.#later.length === 0) return;
    const piece = Buffer.concat(this.#later);
    [this.#later, this.#laterBytes] = [[], 0];
    this.#sentAt = systemClock.monotonic();
    this.#write(piece);
  }

  #write(lines: Buffer): boolean {
    if (!this.#response.headersSent) this.#response.writeHead(200, { "content-type": "application/x-ndjson" });
    return this.#response.write(lines);
  }

  #forget(): void {
    this.#snapshot?.return?.();
    this.#snapshot = undefined;
    this.#gathering?.cancel();
    [this.#later, this.#laterBytes] = [[], 0];
  }
}
