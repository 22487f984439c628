// The one writer of the cluster's state. Everything that changes it is queued here; a turn takes all that is queued,
// drafts it, completes the draft, and has it committed as one revision. Only then it is in the state, which is changed in
// place: code that reads the state over an `await` may find it later than it was.
import { setImmediate as nextEvents } from "node:timers/promises";
import type { Lacking } from "../cluster/features.ts";
import { type AppliedChange, Draft, emptyState, type LiveState } from "../cluster/state.ts";
import type { State } from "../cluster/tables.ts";
import { UserError } from "../lib/errors.ts";
import { Gathering } from "./gathering.ts";
import { roughBytes } from "./rough-bytes.ts";
import { ChangeLines } from "./secrets.ts";
import type { Store } from "./store.ts";

const MAX_QUEUED = 10_000;
/** How many pieces of work one revision has at most: a turn holds the event loop. */
const MAX_TOGETHER = 256;
/** How many bytes of rows one revision has about, and one piece of work more: it is one line to each node. */
const MAX_BYTES = 8 * 1024 * 1024;

interface StateWriterOptions {
  store: Store;
  /** Throws UserError 503 when nothing may be written. */
  requireLeading(): void;
  /** Adds to a draft what follows from its changes. Called once a turn; a turn that fails is as if it had not been. */
  complete(draft: Draft): void;
  /** What is withheld from nodes: each of these has lines of its own. */
  lacking(): Iterable<Lacking>;
  /** The state has changed. `lines` are for the nodes. */
  committed(changes: readonly AppliedChange[], lines: ChangeLines): void;
}

interface Work {
  /** Whether a caller waits for it, who may come again. */
  isCommand: boolean;
  run(draft: Draft): void;
  finish(): void;
  reject(error: unknown): void;
}

export class StateWriter {
  readonly #options: StateWriterOptions;
  #store: Store;
  // BOUNDED: by MAX_QUEUED.
  readonly #queue: Work[] = [];
  readonly #gathering = new Gathering();
  #running: Promise<void> | undefined;
  /** While it is there nothing is written; see `hold`. */
  #held: Promise<unknown> | undefined;
  #state: LiveState = emptyState();
  #sentRevision = 0;
  /** How many pieces of work the next turns take: less after one whose changes were too large for the store. */
  #together = MAX_TOGETHER;

  constructor(options: StateWriterOptions) {
    this.#options = options;
    this.#store = options.store;
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
   * Has `work` done in a turn, with others or alone. When it throws, nothing of it remains and the caller gets the error;
   * when the commit fails, nothing of the turn remains. `whenCommitted` is called before anything else can change the
   * state. Resolves with a revision that every node hears of and that has all of the work. `isCommand`: its caller may ask
   * for the next thing at once, for which the turn after it may wait.
   */
  run<T>(
    work: (draft: Draft) => T,
    whenCommitted: (value: T) => void = () => {},
    { isCommand = false } = {},
  ): Promise<{ value: T; revision: number }> {
    return new Promise((resolve, reject) => {
      if (this.#queue.length >= MAX_QUEUED) throw new UserError(503, "the leader is busy; try again");
      let value: T;
      const run = (draft: Draft) => {
        value = work(draft);
      };
      const finish = () => {
        whenCommitted(value);
        resolve({ value, revision: this.#sentRevision });
      };
      this.#queue.push({ isCommand, run, finish, reject });
      if (isCommand) this.#gathering.queued();
      if (this.#held === undefined) this.#running ??= this.#runAll();
    });
  }

  /**
   * Has `work` done while nothing is written: what is queued waits. From its end on commits go to the store that it
   * resolves with. When it throws, they go where they went before.
   */
  async hold(work: (store: Store) => Promise<Store>): Promise<void> {
    while (this.#held !== undefined) await this.#held;
    const running = this.#running;
    const held = (async () => {
      await running;
      this.#store = await work(this.#store);
    })();
    this.#held = held.catch(() => {});
    try {
      await held;
    } finally {
      this.#held = undefined;
      if (this.#queue.length > 0) this.#running ??= this.#runAll();
    }
  }

  /** Resolves when nothing is being written any more. */
  async settled(): Promise<void> {
    await this.#running;
  }

  async #runAll(): Promise<void> {
    while (this.#queue.length > 0 && this.#held === undefined) {
      await nextEvents(); // requests that arrive together are committed together
      if (this.#queue.length < this.#together) await this.#gathering.wait();
      await this.#turn();
    }
    this.#running = undefined;
  }

  async #turn(): Promise<void> {
    const drafted: Work[] = [];
    try {
      this.#options.requireLeading();
      const draft = new Draft(this.#state);
      this.#takeQueued(draft, drafted);
      if (drafted.length === 0) return;
      this.#options.complete(draft);
      await this.#commit(draft);
      this.#together = Math.min(MAX_TOGETHER, this.#together * 2);
    } catch (error) {
      if (isTooLarge(error) && drafted.length > 1) {
        this.#queue.unshift(...drafted);
        for (const { isCommand } of drafted) if (isCommand) this.#gathering.queued();
        this.#together = drafted.length >> 1;
        return;
      }
      const failed = drafted.length > 0 ? drafted : this.#rest();
      for (const { reject } of failed) reject(error);
      return;
    }
    for (const { finish, reject } of drafted) {
      try {
        finish();
      } catch (error) {
        reject(error);
      }
    }
    this.#gathering.answered(drafted.filter(({ isCommand }) => isCommand).length);
  }

  #next(): Work | undefined {
    const work = this.#queue.shift();
    if (work?.isCommand) this.#gathering.taken();
    return work;
  }

  /** Takes all that is queued. */
  #rest(): Work[] {
    const rest: Work[] = [];
    for (let work = this.#next(); work !== undefined; work = this.#next()) rest.push(work);
    return rest;
  }

  /** Drafts what is queued, the first first, up to what one revision may have. */
  #takeQueued(draft: Draft, drafted: Work[]): void {
    let bytes = 0;
    for (let taken = 0; taken < this.#together && bytes < MAX_BYTES; taken++) {
      const work = this.#next();
      if (work === undefined) return;
      const own = draft.nested();
      try {
        work.run(own);
      } catch (error) {
        work.reject(error); // what it began before it failed is not in the draft
        continue;
      }
      draft.absorb(own);
      drafted.push(work);
      for (const { row } of own.changes) bytes += roughBytes(row);
    }
  }

  async #commit(draft: Draft): Promise<void> {
    const { changes, revision } = draft;
    // Before the commit: what cannot be a line for the nodes is not to be in the store either.
    const states = { before: this.#state, after: draft.state, sent: this.#sentRevision };
    const lines = new ChangeLines(changes, states, this.#options.lacking());
    if (changes.length > 0) await this.#store.commit(changes, revision);
    const applied = changes.length > 0 ? this.#state.apply(changes, revision) : [];
    if (!lines.isEmpty) this.#sentRevision = revision;
    this.#options.committed(applied, lines);
  }
}

/** What some pieces of work change together may be too much for the store's largest commit, and each alone not. */
function isTooLarge(error: unknown): boolean {
  return error instanceof UserError && error.code === 413;
}
