// What a node asks of the leader besides its session: the manager of the session is asked; where there is none, or that one
// leads no longer, the leader is searched for.
import type { Readable } from "node:stream";
import type { CommandInput, CommandResult } from "../cluster/commands.ts";
import type { LogQuery } from "../cluster/protocol.ts";
import type { Clock } from "../lib/clock.ts";
import { withDeadline } from "../lib/deadline.ts";
import { MisdirectedError, messageOf, UserError } from "../lib/errors.ts";
import { UnreachableError } from "../lib/http.ts";
import type { Session } from "./session.ts";
import type { Transport } from "./transport.ts";

/** How long a command waits for its own change to arrive here. */
const CATCH_UP_MS = 5000;
/** The same for a person's command, which may come while managers choose a leader. */
const HEAR_MS = 20_000;
/** One request for the barrier; longer waits are several. */
const BARRIER_SLICE_MS = 30_000;

interface LeaderCallsOptions {
  session: Session;
  transport: Transport;
  clock: Clock;
}

export class LeaderCalls {
  readonly #options: LeaderCallsOptions;

  constructor(options: LeaderCallsOptions) {
    this.#options = options;
  }

  /**
   * Has the leader carry the command out, and waits a moment for the change to arrive here, so that the caller reads what it
   * wrote. Throws UserError, 503 when no leader answers.
   */
  async execute(command: CommandInput): Promise<CommandResult> {
    const { session } = this.#options;
    const result = await this.#execute(command);
    session.endPause();
    await session.arrivalOf(result.revision, CATCH_UP_MS);
    return result;
  }

  /**
   * As `execute`, for a person, who must not read older state here afterwards: throws UserError 504 when the change was made
   * and has not arrived.
   */
  async executeAndHear(command: CommandInput): Promise<CommandResult> {
    const { session } = this.#options;
    const result = await this.#execute(command);
    if (await session.arrivalOf(result.revision, HEAR_MS)) return result;
    throw new UserError(
      504,
      `the change was made, but this node has not heard of it yet: ${session.problem ?? "its manager has not sent it"}`,
    );
  }

  /**
   * Has the leader take this node for down, and begins no session any more. Throws when no leader says within the time that it
   * has; then all goes on as before.
   */
  leave(timeoutMs: number): Promise<void> {
    const { session } = this.#options;
    return session.endAfter(async () => {
      const node = session.nodeId;
      if (node === undefined) throw new UserError(503, "this node has never had a session with a leader");
      await withDeadline(timeoutMs, () => this.#execute({ type: "node.leave", node }));
    });
  }

  /** Resolves when every live node has `revision` in force. Throws UserError 503 that names those that have not. */
  async waitApplied(revision: number, timeoutMs: number): Promise<void> {
    const { transport, clock } = this.#options;
    const deadline = clock.monotonic() + timeoutMs;
    for (;;) {
      const leftMs = Math.max(0, Math.ceil(deadline - clock.monotonic()));
      const sliceMs = Math.min(leftMs, BARRIER_SLICE_MS);
      const behind = await this.#ask((manager) => transport.waitApplied(manager, this.#clusterId, revision, sliceMs));
      if (behind.length === 0) return;
      if (sliceMs === leftMs) {
        throw new UserError(503, `revision ${revision} is not in force on ${behind.join(", ")} after ${timeoutMs} ms`);
      }
    }
  }

  /** What a task printed, from whatever node it is on. Throws UserError. */
  readLog(taskId: string, query: LogQuery): Promise<Readable> {
    const { transport } = this.#options;
    return this.#ask((manager) => transport.readLog(manager, this.#clusterId, taskId, query));
  }

  #execute(command: CommandInput): Promise<CommandResult> {
    const { transport } = this.#options;
    return this.#ask((manager) => transport.execute(manager, this.#clusterId, command));
  }

  /** The id of the node's cluster, as far as it has one. */
  get #clusterId(): string | undefined {
    return this.#options.session.live.cluster?.id;
  }

  async #ask<T>(request: (manager: string) => Promise<T>): Promise<T> {
    const { session } = this.#options;
    const reasons: string[] = [];
    const begun = session.manager;
    try {
      if (begun !== undefined) return await request(begun);
    } catch (error) {
      reasons.push(reasonToGoOn(begun!, error));
    }
    let found: string;
    try {
      found = await session.findLeader();
    } catch (error) {
      throw new UserError(503, `no leader answers (${messageOf(error)})`);
    }
    try {
      return await request(found);
    } catch (error) {
      reasons.push(reasonToGoOn(found, error));
    }
    throw new UserError(503, `no leader answers (${reasons.join("; ")})`);
  }
}

/** Why another manager is to be asked. Throws what the leader refused, and when the manager may have done what was asked. */
function reasonToGoOn(manager: string, error: unknown): string {
  const reason = `${manager}: ${messageOf(error)}`;
  if (error instanceof UnreachableError || error instanceof MisdirectedError) return reason;
  if (!(error instanceof UserError)) {
    throw new UserError(504, `no leader answers (${reason}): look whether it was carried out before you ask again`);
  }
  if (error.code === 503) return reason;
  throw error;
}
