// Logs of tasks: those of this node, started by overlayd or attached, and those of other nodes by way of the leader.
import { Readable } from "node:stream";
import { namespaceOf } from "../attach/subject.ts";
import type { LogQuery } from "../cluster/protocol.ts";
import type { Task } from "../cluster/schema.ts";
import type { State } from "../cluster/tables.ts";
import type { Clock } from "../lib/clock.ts";
import { UserError } from "../lib/errors.ts";
import type { Log } from "../lib/log.ts";
import { readLog } from "../runtime/container-log.ts";
import { type DockerEngine, DockerError } from "../runtime/docker-engine.ts";
import { followLog } from "../runtime/followed-log.ts";
import { AwayError, RejectedError } from "../runtime/runtime.ts";
import type { AnyRuntime } from "../runtime/runtimes.ts";
import type { LeaderCalls } from "../session/leader-calls.ts";
import type { Session } from "../session/session.ts";
import type { Tasks } from "./tasks.ts";

interface TaskLogsOptions {
  session: Pick<Session, "requireState" | "nodeId">;
  leaderCalls: Pick<LeaderCalls, "readLog">;
  tasks: Pick<Tasks, "progressOf">;
  runtime: Pick<AnyRuntime, "logs">;
  engine: DockerEngine;
  clock: Clock;
  log: Log;
}

export class TaskLogs {
  readonly #options: TaskLogsOptions;

  constructor(options: TaskLogsOptions) {
    this.#options = options;
  }

  /** The log of a task of any node. Throws UserError. */
  async read(id: string, query: LogQuery): Promise<Readable> {
    const { session, leaderCalls } = this.#options;
    const task = this.#task(id);
    if (task.nodeId === null) throw new UserError(404, "the task is on no node yet");
    return task.nodeId === session.nodeId ? this.readOwn(id, query) : leaderCalls.readLog(id, query);
  }

  /** The log of a task of this node. Throws UserError. */
  async readOwn(id: string, query: LogQuery): Promise<Readable> {
    const task = this.#task(id);
    if (query.progress === true) return Readable.from([Buffer.from(this.#options.tasks.progressOf(id) ?? "")]);
    try {
      const log = task.attachment === null ? await this.#ofOwn(task, query) : await this.#ofAttached(task, query);
      if (log !== undefined) return log;
    } catch (error) {
      if (error instanceof RejectedError) throw new UserError(400, error.message, { cause: error });
      if (error instanceof AwayError || error instanceof DockerError)
        throw new UserError(503, error.message, { cause: error });
      throw error;
    }
    throw new UserError(404, "it has no log on its node");
  }

  #ofOwn({ id, serviceId }: Task, query: LogQuery): Promise<Readable | undefined> {
    const workload = this.#state.services.get(serviceId)?.workload ?? null;
    return this.#options.runtime.logs({ id, workload }, query);
  }

  async #ofAttached({ id, attachment }: Task, query: LogQuery): Promise<Readable | undefined> {
    const { engine, clock, log } = this.#options;
    const { subject } = attachment!;
    if (namespaceOf(subject) !== undefined) throw new UserError(404, "it is a network namespace, which has no log");
    const container = await engine.container(subject);
    if (container === undefined || !query.follow) return container && readLog(engine, container, query);
    const isWanted = () => this.#state.tasks.has(id);
    return followLog({ engine, clock, log, container: () => engine.container(subject), isWanted }, query);
  }

  #task(id: string): Task {
    const task = this.#state.tasks.get(id);
    if (task === undefined) throw new UserError(404, `there is no task ${id}`);
    return task;
  }

  get #state(): State {
    return this.#options.session.requireState();
  }
}
