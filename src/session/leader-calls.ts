// What a node asks of the leader besides its session: the manager of the session is asked; where there is none, or that one
// leads no longer, the leader is searched for.
import type { Readable } from "node:stream";
import type { CommandInput, CommandResult } from "../cluster/commands.ts";
import type { LogQuery } from "../cluster/protocol.ts";
import type { Clock } from "../lib/clock.ts";
import { MisdirectedError, messageOf, UserError } from "../lib/errors.ts";
import { UnreachableError } from "../lib/http.ts";
import type { LeaderSearch } from "./leader-search.ts";
import type { Transport } from "./transport.ts";

/** One request for the barrier; longer waits are several. */
const BARRIER_SLICE_MS = 30_000;

interface LeaderCallsOptions {
  transport: Transport;
  clock: Clock;
  search: LeaderSearch;
  /** HOST:PORT of the manager that the session is with; undefined: there is none. */
  manager(): string | undefined;
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
    const { search, manager } = this.#options;
    const reasons: string[] = [];
    const begun = manager();
    try {
      if (begun !== undefined) return await request(begun);
    } catch (error) {
      reasons.push(reasonToGoOn(begun!, error));
    }
    let found: string;
    try {
      found = await search.find(new AbortController().signal);
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
