// One TCP connection of a client, RFC 7766: many queries one after the other, answered as soon as each is known.
import type { Socket } from "node:net";
import type { Clock, Timer } from "../lib/clock.ts";
import { TcpFrames } from "./tcp-frames.ts";

const IDLE_MS = 10_000;
/** With so many unanswered queries, or bytes that the client has not taken yet, no more queries are read. */
const MAX_UNANSWERED = 64;
const MAX_UNSENT_BYTES = 1024 * 1024;

/** Takes a message and calls `reply` at most once. Returns false when the message is not DNS: then the connection ends. */
export type Receive = (message: Buffer, reply: (response: Buffer) => void) => boolean;

export class TcpSession {
  readonly #socket: Socket;
  readonly #clock: Clock;
  readonly #receive: Receive;
  readonly #frames = new TcpFrames();
  #unanswered = 0;
  #ended = false;
  #idle: Timer;
  #activeMs: number;

  constructor(socket: Socket, clock: Clock, receive: Receive) {
    this.#socket = socket;
    this.#clock = clock;
    this.#receive = receive;
    this.#activeMs = clock.monotonic();
    this.#idle = clock.after(IDLE_MS, () => this.#socket.destroy());
    socket.setNoDelay(true);
    socket.on("data", (chunk) => {
      this.#frames.push(chunk);
      this.#take();
    });
    socket.on("drain", () => this.#take());
    socket.on("end", () => {
      this.#ended = true;
      this.#take();
    });
    socket.on("error", () => socket.destroy()); // the client went away
    socket.on("close", () => this.#idle.cancel());
  }

  /** The time of its last question, or of its beginning, on the monotonic clock. */
  get activeMs(): number {
    return this.#activeMs;
  }

  end(): void {
    this.#socket.destroy();
  }

  #touch(): void {
    this.#activeMs = this.#clock.monotonic();
    this.#idle.cancel();
    this.#idle = this.#clock.after(IDLE_MS, () => this.#socket.destroy());
  }

  #take(): void {
    while (this.#unanswered < MAX_UNANSWERED && this.#socket.writableLength < MAX_UNSENT_BYTES) {
      if (this.#socket.destroyed) return;
      const message = this.#frames.next();
      if (message === undefined) {
        if (this.#ended && this.#unanswered === 0) this.#socket.end();
        else this.#socket.resume();
        return;
      }
      this.#touch(); // not for some bytes: a few a second would hold the connection for ever
      this.#unanswered++;
      if (!this.#receive(message, (response) => this.#reply(response))) {
        this.#socket.destroy();
        return;
      }
    }
    this.#socket.pause();
  }

  #reply(response: Buffer): void {
    const wasFull = this.#unanswered-- === MAX_UNANSWERED;
    if (this.#socket.destroyed) return;
    this.#touch();
    this.#socket.write(TcpFrames.frame(response));
    if (wasFull || this.#ended) setImmediate(() => this.#take());
  }
}
