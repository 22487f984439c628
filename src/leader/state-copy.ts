// A standby's copy of the leader's whole state, secrets among it, in a file of its own: what `cluster takeover` leads from.
// It is at most some commits behind; which ones were missing is said when it takes over.
import { z } from "zod";
import { ClusterIdentity } from "../cluster/schema.ts";
import { type LiveState, parseChanges, stateFromJson } from "../cluster/state.ts";
import { type Clock, delay } from "../lib/clock.ts";
import { messageOf } from "../lib/errors.ts";
import type { Log } from "../lib/log.ts";
import type { Store } from "./store.ts";

/** What a standby asks of the leader. */
export const CopyRequest = z.object({
  /** The cluster and revision of its copy; null: it has none. */
  cluster: ClusterIdentity.nullable(),
  revision: z.int().min(0),
});
export type CopyRequest = z.infer<typeof CopyRequest>;

export const CopyAnswer = z.object({
  cluster: ClusterIdentity,
  /** The whole state, when the standby is too far behind. */
  state: z.unknown().optional(),
  commits: z.array(z.object({ revision: z.int().min(0), changes: z.array(z.unknown()).readonly() })).default([]),
});
export type CopyAnswer = z.input<typeof CopyAnswer>;

const PAUSE_MS = 1000;

/** The state in an answer that has all of it. Throws when it has not. */
export function stateOfCopy(json: unknown): LiveState {
  const { cluster, state } = CopyAnswer.parse(json);
  const whole = stateFromJson(state);
  whole.cluster = cluster;
  return whole;
}

interface StateCopyOptions {
  /** Where it is kept. */
  store: Store;
  /** Asks the leader, which answers when there is something new, or after a while. */
  ask(request: CopyRequest, signal: AbortSignal): Promise<unknown>;
  clock: Clock;
  log: Log;
}

export class StateCopy {
  readonly #options: StateCopyOptions;
  readonly #stopping = new AbortController();
  #cluster: ClusterIdentity | null = null;
  #revision = 0;
  #problem: string | undefined = "the leader has not been asked yet";
  #run: Promise<void> | undefined;

  constructor(options: StateCopyOptions) {
    this.#options = options;
  }

  get revision(): number {
    return this.#revision;
  }

  get cluster(): ClusterIdentity | null {
    return this.#cluster;
  }

  /** Why it may be behind; undefined: the leader answers. */
  get problem(): string | undefined {
    return this.#problem;
  }

  /** Resolves when what is kept has been read; it follows the leader from then on. */
  async start(): Promise<void> {
    await this.#options.store.campaign();
    const { cluster, revision } = await this.#options.store.load();
    this.#cluster = cluster;
    this.#revision = revision;
    this.#run = this.#follow();
  }

  /** The store stays open. */
  async stop(): Promise<void> {
    this.#stopping.abort();
    await this.#run;
  }

  async #follow(): Promise<void> {
    const { clock, log } = this.#options;
    const { signal } = this.#stopping;
    while (!signal.aborted) {
      try {
        await this.#once();
        this.#problem = undefined;
      } catch (error) {
        const problem = messageOf(error);
        if (!signal.aborted && problem !== this.#problem)
          log.warn("the leader's state is not copied", { reason: problem });
        this.#problem = problem;
        await delay(clock, PAUSE_MS, signal);
      }
    }
  }

  async #once(): Promise<void> {
    const { store, ask } = this.#options;
    const json = await ask({ cluster: this.#cluster, revision: this.#revision }, this.#stopping.signal);
    if (this.#stopping.signal.aborted) return;
    const { state, commits } = CopyAnswer.parse(json);
    if (state !== undefined) {
      const whole = stateOfCopy(json);
      await store.fill(whole);
      this.#cluster = whole.cluster;
      this.#revision = whole.revision;
    }
    for (const { revision, changes } of commits) {
      await store.commit(parseChanges(changes), revision);
      this.#revision = revision;
    }
  }
}
