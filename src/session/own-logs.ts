// Brings logs of this node's tasks to the leader, for the clients that ask the leader for them.
import { Readable } from "node:stream";
import type { LogQuery } from "../cluster/protocol.ts";
import { messageOf, UserError } from "../lib/errors.ts";
import type { Log } from "../lib/log.ts";
import type { LogLine } from "./leader-stream.ts";
import type { Transport } from "./transport.ts";

/** Throws UserError. */
type ReadLog = (taskId: string, query: LogQuery) => Promise<Readable>;

export class OwnLogs {
  readonly #transport: Transport;
  readonly #log: Log;
  #read: ReadLog = async () => {
    throw new UserError(409, "this node does not show logs yet");
  };

  constructor(transport: Transport, log: Log) {
    this.#transport = transport;
    this.#log = log;
  }

  /** From now on logs are read with `read`. */
  serve(read: ReadLog): void {
    this.#read = read;
  }

  /** Brings the log that `manager` asks for in the session, or the reason why there is none. Resolves at its end. */
  async bring(manager: string, sessionId: string, { requestId, taskId, query }: LogLine): Promise<void> {
    try {
      const log = await this.#read(taskId, query).catch((error: unknown) => {
        const code = error instanceof UserError && (error.code === 400 || error.code === 404) ? error.code : 409;
        return { code, message: messageOf(error) } as const;
      });
      if (log instanceof Readable) await this.#transport.bringLog(manager, sessionId, requestId, log);
      else await this.#transport.refuseLog(manager, sessionId, requestId, log);
    } catch (error) {
      this.#log.debug("a log that another node asked for was not brought to its end", { reason: messageOf(error) });
    }
  }
}
