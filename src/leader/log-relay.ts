// Logs of tasks on other nodes. A client's node asks the leader, the leader asks the task's node down its session, and
// that node brings the log: the leader keeps nothing of it.
//
//   asking node --POST log--> leader --line down the session--> task's node
//   asking node <---------- bytes as they come ----------- leader <--POST bytes-- task's node
import type { Readable } from "node:stream";
import { encodeLine, LogQuery, LogRefusal } from "../cluster/protocol.ts";
import { check } from "../lib/check.ts";
import type { Clock, Timer } from "../lib/clock.ts";
import { UserError } from "../lib/errors.ts";
import type { Sessions } from "./sessions.ts";
import type { StateWriter } from "./state-writer.ts";
import type { Term } from "./term.ts";

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

interface LogRelayOptions {
  clock: Clock;
  newId: () => string;
  term: Term;
  writer: StateWriter;
  sessions: Sessions;
}

export class LogRelay {
  readonly #options: LogRelayOptions;
  // BOUNDED: by MAX_WAITING; keyed by request id.
  readonly #waiting = new Map<string, Waiting>();

  constructor(options: LogRelayOptions) {
    this.#options = options;
  }

  /** What a task printed, from its node. Throws UserError. */
  async read(taskId: string, input: LogQuery): Promise<Readable> {
    const { clock, newId, term, writer, sessions } = this.#options;
    term.requireLeading();
    const query = check(LogQuery, input);
    const task = writer.state.tasks.get(taskId);
    const node = writer.state.nodes.get(task?.nodeId ?? "");
    if (task === undefined) throw new UserError(404, `there is no task ${taskId}`);
    if (node === undefined) throw new UserError(404, "the task is on no node yet");
    const session = sessions.of(node.id);
    if (session === undefined) throw new UserError(409, `node '${node.name}' cannot be asked: it has no session`);
    if (this.#waiting.size >= MAX_WAITING) throw new UserError(503, "too many logs are asked for at once; try again");
    const requestId = newId();
    return new Promise((resolve, reject) => {
      const timer = clock.after(BEGIN_MS, () => {
        this.#waiting.delete(requestId);
        reject(new UserError(409, `node '${node.name}' does not bring the log`));
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
  refuse(sessionId: string, requestId: string, input: LogRefusal): void {
    const { code, message } = check(LogRefusal, input);
    this.#take(sessionId, requestId).reject(new UserError(code, message));
  }

  #take(sessionId: string, requestId: string): Waiting {
    const waiting = this.#waiting.get(requestId);
    if (waiting?.sessionId !== sessionId) throw new UserError(404, "no client waits for this log");
    this.#waiting.delete(requestId);
    waiting.timer.cancel();
    return waiting;
  }
}
