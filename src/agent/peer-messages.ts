// What two agents say to each other on the connection by which they agree on keys: lines of JSON, each of a type, checked and short.
import type { TLSSocket } from "node:tls";
import { z } from "zod";
import { FIRST_SPI } from "../packet/esp.ts";

/** A peer has at most so many sending sockets: its workers times the source ports of each. */
const MOST_SOCKETS = 256;
const MAX_LINE_BYTES = 8192;
/** An exchange has three messages from each end, so no more than these wait to be read. */
const MOST_UNREAD = 4;
const MOST_REASON = 300;
const LAST_SPI = 2 ** 32 - 1;

const MESSAGES = {
  /** How many sockets its sender sends from, and the number of its last exchange with the receiver. */
  sockets: z.object({
    type: z.literal("sockets"),
    sockets: z.int().min(1).max(MOST_SOCKETS),
    exchanges: z
      .int()
      .min(0)
      .max(2 ** 48),
  }),
  /** The SPIs that its sender has chosen, one for each socket of the receiver, who may send by them from now on. */
  offer: z.object({ type: z.literal("offer"), spis: z.array(z.int().min(FIRST_SPI).max(LAST_SPI)).max(MOST_SOCKETS) }),
  /** Its sender sends by the receiver's offer from now on, or by a newer one. */
  taken: z.object({ type: z.literal("taken") }),
};
const REFUSED = z.object({ type: z.literal("refused"), reason: z.string().max(MOST_REASON) });

type Messages = { [T in keyof typeof MESSAGES]: z.infer<(typeof MESSAGES)[T]> };
type Message = Messages[keyof Messages];

/** The other end said why it agrees on no keys. */
class RefusedByPeerError extends Error {
  override name = "RefusedByPeerError";
}

interface Waiting {
  resolve(line: string): void;
  reject(error: Error): void;
}

export class PeerMessages {
  readonly #socket: TLSSocket;
  readonly #lines: string[] = []; // BOUNDED: by MOST_UNREAD
  #rest = "";
  #ended: Error | undefined;
  #waiting: Waiting | undefined;

  constructor(socket: TLSSocket) {
    this.#socket = socket;
    socket.setEncoding("utf8");
    socket.on("data", (text: string) => this.#read(text));
    socket.once("end", () => this.#end(new Error("the peer closed the connection before the keys were agreed on")));
    socket.on("error", (error) => this.#end(error));
    socket.once("close", () => this.#end(new Error("the connection broke before the keys were agreed on")));
  }

  /** Throws when nothing reaches the peer any more. */
  requireOpen(): void {
    if (this.#ended !== undefined) throw this.#ended;
  }

  say(message: Message): void {
    this.#socket.write(`${JSON.stringify(message)}\n`);
  }

  /** The last word to a peer with whom no keys are agreed on. */
  refuse(reason: string): void {
    this.#socket.end(`${JSON.stringify({ type: "refused", reason: reason.slice(0, MOST_REASON) })}\n`);
  }

  /** The next message. Throws when it is another, when none comes any more, and RefusedByPeerError when the peer refuses. */
  async hear<T extends keyof Messages>(type: T): Promise<Messages[T]> {
    const line = await this.#next();
    let message: unknown;
    try {
      message = JSON.parse(line);
    } catch (cause) {
      throw new Error("the peer sent what is no message", { cause });
    }
    const refused = REFUSED.safeParse(message);
    if (refused.success) throw new RefusedByPeerError(`it refuses: ${refused.data.reason}`);
    const checked = MESSAGES[type].safeParse(message);
    if (!checked.success) throw new Error(`the peer sent another message than '${type}'`, { cause: checked.error });
    return checked.data as Messages[T];
  }

  #next(): Promise<string> {
    const line = this.#lines.shift();
    if (line !== undefined) return Promise.resolve(line);
    if (this.#ended !== undefined) return Promise.reject(this.#ended);
    return new Promise((resolve, reject) => {
      this.#waiting = { resolve, reject };
    });
  }

  #read(text: string): void {
    const lines = (this.#rest + text).split("\n");
    this.#rest = lines.pop()!;
    if (this.#rest.length > MAX_LINE_BYTES || lines.some((line) => line.length > MAX_LINE_BYTES)) {
      this.#break(`the peer sent a message of more than ${MAX_LINE_BYTES} bytes`);
    }
    for (const line of lines) {
      const waiting = this.#waiting;
      this.#waiting = undefined;
      if (waiting !== undefined) waiting.resolve(line);
      else if (this.#lines.push(line) > MOST_UNREAD) {
        this.#break("the peer sent more messages than there are");
        return;
      }
    }
  }

  #break(reason: string): void {
    this.#socket.destroy(new Error(reason));
    this.#end(new Error(reason));
  }

  #end(error: Error): void {
    this.#ended ??= error;
    this.#waiting?.reject(this.#ended);
    this.#waiting = undefined;
  }
}
