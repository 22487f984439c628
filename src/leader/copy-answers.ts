// What the leader answers standbys that copy its state, secrets among it: the commits after theirs, or all of it.
import { isDeepStrictEqual } from "node:util";
import { isNewerEpoch } from "../cluster/identity.ts";
import type { Change } from "../cluster/schema.ts";
import { type AppliedChange, stateToJson } from "../cluster/state.ts";
import { check } from "../lib/check.ts";
import type { Clock } from "../lib/clock.ts";
import { type Commit, CommitLog } from "./commit-log.ts";
import { type CopyAnswer, CopyRequest } from "./state-copy.ts";
import type { StateWriter } from "./state-writer.ts";
import type { Term } from "./term.ts";

/** How long a standby waits for the next commit. */
const WAIT_MS = 20_000;

interface CopyAnswersOptions {
  clock: Clock;
  term: Term;
  writer: StateWriter;
  /** See LeaderConfig. */
  heardOfNewerEpoch?: (() => void) | undefined;
}

export class CopyAnswers {
  readonly #options: CopyAnswersOptions;
  /** undefined until the leader begins. */
  #commits: CommitLog | undefined;

  constructor(options: CopyAnswersOptions) {
    this.#options = options;
  }

  /** The leader begins, with the state that the writer has. */
  begin(): void {
    const { clock, writer } = this.#options;
    this.#commits = new CommitLog(clock, writer.state.revision);
  }

  /** The state has changed by these. */
  committed(changes: readonly AppliedChange[]): void {
    if (changes.length === 0) return;
    const commit = changes.map(({ kind, key, row }) => ({ kind, key, row }) as Change);
    this.#commits?.add({ revision: this.#options.writer.state.revision, changes: commit });
  }

  /** What the standby's copy lacks: once there is something, or after a while nothing. Throws UserError 503. */
  async answer(input: CopyRequest): Promise<CopyAnswer> {
    const { term, writer, heardOfNewerEpoch } = this.#options;
    term.requireLeading();
    const { cluster, revision } = check(CopyRequest, input);
    if (cluster !== null && isNewerEpoch(cluster, writer.state.cluster!)) heardOfNewerEpoch?.();
    const isOurs = isDeepStrictEqual(cluster, writer.state.cluster);
    if (isOurs) await this.#commits!.wait(revision, WAIT_MS);
    term.requireLeading();
    const own = writer.state.cluster!;
    const commits = isOurs ? this.commitsAfter(revision) : undefined;
    return commits === undefined
      ? { cluster: own, state: stateToJson(writer.state) }
      : { cluster: own, commits: [...commits] };
  }

  /** The commits after `revision`, as far as they are known: what a manager that took over has not copied. */
  commitsAfter(revision: number): readonly Commit[] | undefined {
    return this.#commits?.after(revision);
  }
}
