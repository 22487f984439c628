// The one writer of the cluster's state. Everything that changes it is queued here; a turn takes all that is queued,
// drafts it, completes the draft, and has it committed as one revision. Only then it is in the state, which is changed in
// place: code that reads the state over an `await` may find it later than it was.
import { setImmediate as nextEvents } from "node:timers/promises";
import { type AppliedChange, Draft, emptyState, type LiveState } from "../cluster/state.ts";
import type { State } from "../cluster/tables.ts";
import { UserError } from "../lib/errors.ts";
import { ChangeLines } from "./secrets.ts";
import type { Store } from "./store.ts";

const MAX_QUEUED = 10_000;
/** How many pieces of work one revision has at most: a turn holds the event loop. */
const MAX_TOGETHER = 256;

interface StateWriterOptions {
  store: Store;
  /** Throws UserError 503 when nothing may be written. */
  requireLeading(): void;
  /** Adds to a draft what follows from its changes. Called once a turn; a turn that fails is as if it had not been. */
  complete(draft: Draft): void;
  /** The state has changed. `lines` are for the nodes. */
  committed(changes: readonly AppliedChange[], lines: ChangeLines): void;
}

interface Work {
  run(draft: Draft): void;
  finish(): void;
  reject(error: unknown): void;
}

export class StateWriter {
  readonly #options: StateWriterOptions;
  // BOUNDED: by MAX_QUEUED.
  readonly #queue: Work[] = [];
  #running: Promise<void> | undefined;
  #state: LiveState = emptyState();
  #sentRevision = 0;

  constructor(options: StateWriterOptions) {
    this.#options = options;
  }

  get state(): State {
    return this.#state;
  }

  /** The last revision that nodes were sent: those after it hold nothing for nodes. */
  get sentRevision(): number {
    return this.#sentRevision;
  }

  /** Begins with a state that the store has. */
  load(state: LiveState): void {
    this.#state = state;
    this.#sentRevision = state.revision;
  }

  /**
   * Has `work` done in a turn, with others or alone. Where it throws, nothing of it remains, and the caller gets the error; where the
   * commit fails, all of the turn does. `whenCommitted` is called before anything else can change the state. Resolves
   * with a revision that every node hears of and that has all of the work.
   */
  run<T>(
    work: (draft: Draft) => T,
    whenCommitted: (value: T) => void = () => {},
  ): Promise<{ value: T; revision: number }> {
    if (this.#queue.length >= MAX_QUEUED) throw new UserError(503, "the leader is busy; try again");
    return new Promise((resolve, reject) => {
      let value: T;
      const run = (draft: Draft) => {
        value = work(draft);
      };
      const finish = () => {
        whenCommitted(value);
        resolve({ value, revision: this.#sentRevision });
      };
      this.#queue.push({ run, finish, reject });
      this.#running ??= this.#runAll();
    });
  }

  /** Resolves when nothing is being written any more. */
  async settled(): Promise<void> {
    await this.#running;
  }

  async #runAll(): Promise<void> {
    while (this.#queue.length > 0) {
      await nextEvents(); // requests that arrive together are committed together
      await this.#turn(this.#queue.splice(0, MAX_TOGETHER));
    }
    this.#running = undefined;
  }

  async #turn(works: readonly Work[]): Promise<void> {
    let drafted: Work[] = works.slice();
    try {
      this.#options.requireLeading();
      const draft = new Draft(this.#state);
      drafted = works.filter((work) => isDrafted(work, draft));
      if (drafted.length === 0) return;
      this.#options.complete(draft);
      await this.#commit(draft);
    } catch (error) {
      for (const { reject } of drafted) reject(error);
      return;
    }
    for (const { finish, reject } of drafted) {
      try {
        finish();
      } catch (error) {
        reject(error);
      }
    }
  }

  async #commit(draft: Draft): Promise<void> {
    const { changes, revision } = draft;
    if (changes.length > 0) await this.#options.store.commit(changes, revision);
    const lines = new ChangeLines(this.#state, draft.state, changes, this.#sentRevision);
    const applied = changes.length > 0 ? this.#state.apply(changes, revision) : [];
    if (!lines.isEmpty) this.#sentRevision = revision;
    this.#options.committed(applied, lines);
  }
}

/** Takes the work into the draft; what one piece began before it failed is not in it. */
function isDrafted(work: Work, draft: Draft): boolean {
  const own = draft.nested();
  try {
    work.run(own);
  } catch (error) {
    work.reject(error);
    return false;
  }
  draft.absorb(own);
  return true;
}
