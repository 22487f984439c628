// Lines down one node's connection, as fast as its link takes them. A snapshot is encoded while it is taken, so that a
// slow link holds a piece of it and not all; changes that come meanwhile follow it.
import type { ServerResponse } from "node:http";
import { messageOf } from "../lib/errors.ts";
import type { Log } from "../lib/log.ts";
import type { SessionSink } from "./sessions.ts";

/** A node that takes so little of what changes is cut off: it comes back for a snapshot. */
const MAX_UNSENT_BYTES = 64 * 1024 * 1024;

export class LineSink implements SessionSink {
  readonly #response: ServerResponse;
  readonly #log: Log;
  /** The rest of a snapshot; undefined: all of it is sent. */
  #snapshot: Iterator<Buffer> | undefined;
  // BOUNDED: by MAX_UNSENT_BYTES. Lines that follow the snapshot.
  #later: Buffer[] = [];
  #laterBytes = 0;

  constructor(response: ServerResponse, log: Log) {
    this.#response = response;
    this.#log = log;
    response.on("error", (error) => log.debug("a session's stream broke", { reason: messageOf(error) }));
    response.on("drain", () => this.#sendSnapshot());
    response.on("close", () => this.#forget());
  }

  send(line: Buffer): void {
    if (this.#response.destroyed) return;
    if (this.#snapshot === undefined) this.#write(line);
    else {
      this.#later.push(line);
      this.#laterBytes += line.length;
    }
    const unsent = this.#snapshot === undefined ? this.#response.writableLength : this.#laterBytes;
    if (unsent <= MAX_UNSENT_BYTES) return;
    this.#log.warn("a node takes nothing of its session; cutting it off");
    this.#response.destroy();
  }

  sendSnapshot(lines: Iterator<Buffer>): void {
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
        for (const line of this.#later) this.#write(line);
        [this.#later, this.#laterBytes] = [[], 0];
      } else if (!this.#write(value)) return;
    }
  }

  #write(lines: Buffer): boolean {
    if (!this.#response.headersSent) this.#response.writeHead(200, { "content-type": "application/x-ndjson" });
    return this.#response.write(lines);
  }

  #forget(): void {
    this.#snapshot?.return?.();
    this.#snapshot = undefined;
    [this.#later, this.#laterBytes] = [[], 0];
  }
}
