// What a node asks of the leader besides its session: the manager of the session is asked, or each in turn until one answers.
import type { Readable } from "node:stream";
import type { CommandInput, CommandResult } from "../cluster/commands.ts";
import type { LogQuery } from "../cluster/protocol.ts";
import type { Clock } from "../lib/clock.ts";
import { messageOf, UserError } from "../lib/errors.ts";
import { UnreachableError } from "../lib/http.ts";
import type { Transport } from "./transport.ts";

/** One request for the barrier; longer waits are several. */
const BARRIER_SLICE_MS = 30_000;

interface LeaderCallsOptions {
  transport: Transport;
  clock: Clock;
  /** HOST:PORT of those to ask, in their order. */
  managers(): readonly string[];
  /** The id of the node's cluster, as far as it has one. */
  clusterId(): string | undefined;
}

export class LeaderCalls {
  readonly #options: LeaderCallsOptions;

  constructor(options: LeaderCallsOptions) {
    this.#options = options;
  }

  execute(command: CommandInput): Promise<CommandResult> {
    const { transport, clusterId } = this.#options;
    return this.#ask((manager) => transport.execute(manager, clusterId(), command));
  }

  async waitApplied(revision: number, timeoutMs: number): Promise<void> {
    const { transport, clock, clusterId } = this.#options;
    const deadline = clock.monotonic() + timeoutMs;
    for (;;) {
      const leftMs = Math.max(0, Math.ceil(deadline - clock.monotonic()));
      const sliceMs = Math.min(leftMs, BARRIER_SLICE_MS);
      const behind = await this.#ask((manager) => transport.waitApplied(manager, clusterId(), revision, sliceMs));
      if (behind.length === 0) return;
      if (sliceMs === leftMs) {
        throw new UserError(503, `revision ${revision} is not in force on ${behind.join(", ")} after ${timeoutMs} ms`);
      }
    }
  }

  readLog(taskId: string, query: LogQuery): Promise<Readable> {
    const { transport, clusterId } = this.#options;
    return this.#ask((manager) => transport.readLog(manager, clusterId(), taskId, query));
  }

  async #ask<T>(request: (manager: string) => Promise<T>): Promise<T> {
    const reasons: string[] = [];
    for (const manager of this.#options.managers()) {
      try {
        return await request(manager);
      } catch (error) {
        if (error instanceof UserError && error.code !== 503) throw error;
        const isAmbiguous = !(error instanceof UserError) && !(error instanceof UnreachableError);
        reasons.push(`${manager}: ${messageOf(error)}`);
        if (isAmbiguous) reasons.push("whether it was carried out is not known");
        if (isAmbiguous) break;
      }
    }
    throw new UserError(503, `no leader answers (${reasons.join("; ")})`);
  }
}
