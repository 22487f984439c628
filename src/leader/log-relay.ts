// Logs of tasks on other nodes. A client's node asks the leader, the leader asks the task's node down its session, and
// that node brings the log: the leader keeps nothing of it.
//
//   asking node --POST log--> leader --line down the session--> task's node
//   asking node <---------- bytes as they come ----------- leader <--POST bytes-- task's node
import type { Readable } from "node:stream";
import { encodeLine, type LogQuery } from "../cluster/protocol.ts";
import type { Clock, Timer } from "../lib/clock.ts";
import { UserError } from "../lib/errors.ts";

const MAX_WAITING = 1000;
/** How long a node may take until it begins to bring the log. */
const BEGIN_MS = 10_000;

interface Waiting {
  /** The session that was asked: no other can bring the log. */
  sessionId: string;
  resolve(log: Readable): void;
  reject(error: UserError): void;
  timer: Timer;
}

/** A node's session. */
interface LogSource {
  id: string;
  sink: { send(line: Buffer): void };
}

export class LogRelay {
  readonly #clock: Clock;
  readonly #newId: () => string;
  // BOUNDED: by MAX_WAITING; keyed by request id.
  readonly #waiting = new Map<string, Waiting>();

  constructor(clock: Clock, newId: () => string) {
    this.#clock = clock;
    this.#newId = newId;
  }

  /** Asks for a log. `session` is that of the task's node, named `node`. Throws UserError. */
  ask(session: LogSource, node: string, taskId: string, query: LogQuery): Promise<Readable> {
    if (this.#waiting.size >= MAX_WAITING) throw new UserError(503, "too many logs are asked for at once; try again");
    const requestId = this.#newId();
    return new Promise((resolve, reject) => {
      const timer = this.#clock.after(BEGIN_MS, () => {
        this.#waiting.delete(requestId);
        reject(new UserError(409, `node '${node}' does not bring the log`));
      });
      this.#waiting.set(requestId, { sessionId: session.id, resolve, reject, timer });
      session.sink.send(encodeLine({ type: "log", requestId, taskId, query }));
    });
  }

  /** Takes the log from its node. Throws UserError 404 when no client waits for it from that session. */
  bring(sessionId: string, requestId: string, log: Readable): void {
    this.#take(sessionId, requestId).resolve(log);
  }

  /** Takes the node's reason for bringing none. Throws UserError 404 when no client waits for it from that session. */
  refuse(sessionId: string, requestId: string, reason: UserError): void {
    this.#take(sessionId, requestId).reject(reason);
  }

  #take(sessionId: string, requestId: string): Waiting {
    const waiting = this.#waiting.get(requestId);
    if (waiting?.sessionId !== sessionId) throw new UserError(404, "no client waits for this log");
    this.#waiting.delete(requestId);
    waiting.timer.cancel();
    return waiting;
  }
}
