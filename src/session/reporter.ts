// What a node has to tell the leader, and what of it the leader has: sends the difference until it is acknowledged, and a
// report without news when there is none, to show that the node lives. No call here looks at statuses that have not changed.
import { isDeepStrictEqual } from "node:util";
import { type Report, UNAWAITED_GAP_MS } from "../cluster/protocol.ts";
import type { TaskStatus } from "../cluster/schema.ts";
import type { Clock, Timer } from "../lib/clock.ts";
import type { Beats } from "./beat-stream.ts";

const RETRY_MS = 1000;
/** The least time between two reports that only say which revision is in force: with hundreds of changes a second, one report says it of several. */
export const APPLIED_GAP_MS = 20;

/** A session's way up to the leader. */
export interface ReportLink {
  /** Resolves when the leader has it. `signal` aborts with the session. */
  send(report: Report, signal: AbortSignal): Promise<void>;
  /** For what a report without news says; left out: reports say it. */
  beats?: Beats | undefined;
  /** After that time without a report one is sent without news. */
  beatMs(): number;
  /** The node tells at once when it has a revision up to this one in force; later ones when it is at leisure. */
  awaited(): number;
  /** A report failed; it is tried again unless `detach` was called. */
  failed(error: unknown): void;
}

/** What a node observes of itself. */
export type Observations = Readonly<Pick<Report, "heldPorts" | "addresses" | "docker">>;

/** Where the node tells the statuses of its tasks. */
export interface StatusReports {
  /** The status of a task is new or another. */
  put(status: TaskStatus): void;
  /** Nothing is left of the task on the node. */
  remove(taskId: string): void;
  /** All tasks were looked at: before this the leader is told no status, for it would take those that are missing for gone. */
  complete(): void;
}

const NO_OBSERVATIONS: Observations = { heldPorts: [], addresses: [], docker: null };

export class Reporter implements StatusReports {
  readonly #clock: Clock;
  // BOUNDED: by the node's tasks; keyed by task id.
  readonly #statuses = new Map<string, TaskStatus>();
  #isComplete = false;
  #observations = NO_OBSERVATIONS;
  #applied = 0;
  #session: SessionReports | undefined;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  put(status: TaskStatus): void {
    this.#statuses.set(status.taskId, status);
    this.#session?.changed(status.taskId);
  }

  remove(taskId: string): void {
    if (this.#statuses.delete(taskId)) this.#session?.changed(taskId);
  }

  complete(): void {
    this.#isComplete = true;
    this.#session?.sendNews();
  }

  setObservations(observations: Partial<Observations>): void {
    const next = { ...this.#observations, ...observations };
    if (isDeepStrictEqual(next, this.#observations)) return;
    this.#observations = next;
    this.#session?.sendNews();
  }

  setApplied(revision: number): void {
    this.#applied = revision;
    this.#session?.sendNews();
  }

  /** What the last beat said may not have arrived. */
  retell(): void {
    this.#session?.retell();
  }

  /** The link's `awaited` has grown. */
  awaitedChanged(): void {
    this.#session?.sendNews();
  }

  /** The leader knows nothing at the beginning of a session. */
  attach(link: ReportLink): void {
    this.detach();
    this.#applied = 0;
    this.#session = new SessionReports(this.#clock, link, {
      statuses: this.#statuses,
      isComplete: () => this.#isComplete,
      observations: () => this.#observations,
      applied: () => this.#applied,
    });
    this.#session.begin();
  }

  detach(): void {
    this.#session?.end();
    this.#session = undefined;
  }
}

/** What the node has to tell. */
interface News {
  readonly statuses: ReadonlyMap<string, TaskStatus>;
  isComplete(): boolean;
  observations(): Observations;
  applied(): number;
}

/** The reports of one session: one at a time; what comes up meanwhile goes with the next. */
class SessionReports {
  readonly #clock: Clock;
  readonly #link: ReportLink;
  readonly #news: News;
  /** Whether the leader has had all statuses. */
  #isFull = false;
  // BOUNDED: by the node's tasks; ids of tasks whose status the leader does not have as it is, once it has had all.
  readonly #changed = new Set<string>();
  /** What the leader has; a revision of -1: that is not known. */
  #observations = NO_OBSERVATIONS;
  #applied = 0;
  /** When a report last said another revision than the one before. */
  #appliedAt = Number.NEGATIVE_INFINITY;
  #seq = 0;
  #isSending = false;
  readonly #end = new AbortController();
  #beat: Timer | undefined;

  constructor(clock: Clock, link: ReportLink, news: News) {
    this.#clock = clock;
    this.#link = link;
    this.#news = news;
  }

  begin(): void {
    void this.#send();
  }

  changed(taskId: string): void {
    this.#changed.add(taskId);
    this.sendNews();
  }

  sendNews(): void {
    if (this.#hasNews) void this.#send();
    else if (this.#hasApplied) this.#sendApplied();
  }

  retell(): void {
    this.#applied = -1;
    this.sendNews();
  }

  end(): void {
    this.#end.abort();
    this.#link.beats?.end();
    this.#beat?.cancel();
  }

  get #hasEnded(): boolean {
    return this.#end.signal.aborted;
  }

  /** Whether there is news that is told at once. */
  get #hasNews(): boolean {
    const { isComplete, observations } = this.#news;
    if (this.#isFull ? this.#changed.size > 0 : isComplete()) return true;
    return !isDeepStrictEqual(observations(), this.#observations);
  }

  get #hasApplied(): boolean {
    return this.#news.applied() !== this.#applied;
  }

  /** Sends a report at once, or when the gap to the last one has passed. */
  #sendApplied(): void {
    if (this.#isSending || this.#hasEnded) return;
    const isAwaited = this.#applied < this.#link.awaited();
    const gapMs = isAwaited ? APPLIED_GAP_MS : Math.min(UNAWAITED_GAP_MS, this.#link.beatMs());
    const leftMs = this.#appliedAt + gapMs - this.#clock.monotonic();
    this.#beat?.cancel();
    if (leftMs <= 0) void this.#send();
    else this.#sendIn(leftMs);
  }

  async #send(): Promise<void> {
    if (this.#isSending || this.#hasEnded) return;
    this.#beat?.cancel();
    if (this.#tell()) return;
    this.#isSending = true;
    const told = [...this.#changed];
    const observations = this.#news.observations();
    const report = this.#report(observations);
    if (report.applied !== this.#applied) this.#appliedAt = this.#clock.monotonic();
    this.#changed.clear();
    let failed = false;
    try {
      await this.#link.send(report, this.#end.signal);
      this.#isFull ||= report.full;
      this.#observations = observations;
      this.#applied = report.applied;
    } catch (error) {
      failed = true;
      for (const id of told) this.#changed.add(id);
      if (!this.#hasEnded) this.#link.failed(error);
    }
    this.#isSending = false;
    if (this.#hasEnded) return;
    if (!failed && (this.#hasNews || this.#hasApplied)) this.sendNews();
    else this.#sendIn(failed ? RETRY_MS : this.#link.beatMs());
  }

  /** By a beat, when the leader has all but what a beat says; false: a report has to say it. */
  #tell(): boolean {
    const applied = this.#news.applied();
    if (this.#seq === 0 || this.#hasNews || this.#link.beats?.tell(applied) !== true) return false;
    if (applied !== this.#applied) this.#appliedAt = this.#clock.monotonic();
    this.#applied = applied;
    this.#sendIn(this.#link.beatMs());
    return true;
  }

  #sendIn(ms: number): void {
    this.#beat = this.#clock.after(ms, () => void this.#send());
  }

  #report(observations: Observations): Report {
    const { statuses, isComplete, applied } = this.#news;
    const full = !this.#isFull && isComplete();
    const changed = this.#isFull ? [...this.#changed] : [];
    return {
      seq: ++this.#seq,
      statuses: full ? [...statuses.values()] : changed.flatMap((id) => statuses.get(id) ?? []),
      gone: changed.filter((id) => !statuses.has(id)),
      full,
      ...observations,
      applied: applied(),
    };
  }
}
