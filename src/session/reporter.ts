// What a node has to tell the leader, and what of it the leader has: sends the difference until it is acknowledged.

import type { Report } from "../cluster/protocol.ts";
import type { TaskStatus } from "../cluster/schema.ts";
import type { Clock, Timer } from "../lib/clock.ts";

const RETRY_MS = 1000;

export interface ReportLink {
  /** Resolves when the leader has it. */
  send(report: Report): Promise<void>;
  /** So often something is sent, if only to show life. */
  beatMs: number;
  /** A report failed; it is tried again unless `detach` was called. */
  failed(error: unknown): void;
}

/** What a node observes of itself. */
export type NodeFacts = Readonly<Pick<Report, "heldPorts" | "addresses" | "docker">>;

/** What the leader has of a link. */
interface Acknowledged {
  /** undefined: not told. */
  statuses: ReadonlyMap<string, TaskStatus> | undefined;
  facts: NodeFacts;
  applied: number;
}

const NO_FACTS: NodeFacts = { heldPorts: [], addresses: [], docker: null };
const NOTHING: Acknowledged = { statuses: undefined, facts: NO_FACTS, applied: 0 };

export class Reporter {
  readonly #clock: Clock;
  /** undefined until the node has looked at its tasks for the first time. */
  #statuses: ReadonlyMap<string, TaskStatus> | undefined;
  #facts = NO_FACTS;
  #applied = 0;
  /** The number of the report that was sent last. */
  #seq = 0;
  #acknowledged = NOTHING;
  #link: ReportLink | undefined;
  #sending = false;
  #beat: Timer | undefined;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** All statuses of the node's tasks. */
  setStatuses(statuses: readonly TaskStatus[]): void {
    this.#statuses = new Map(statuses.map((status) => [status.taskId, status]));
    this.#sendNews();
  }

  setFacts(facts: Partial<NodeFacts>): void {
    const known = JSON.stringify(this.#facts);
    this.#facts = { ...this.#facts, ...facts };
    if (JSON.stringify(this.#facts) !== known) this.#sendNews(); // that looks at every status
  }

  setApplied(revision: number): void {
    this.#applied = revision;
    this.#sendNews();
  }

  /** The leader knows nothing at the beginning of a session. */
  attach(link: ReportLink): void {
    this.detach();
    this.#link = link;
    this.#applied = 0;
    this.#acknowledged = NOTHING;
    void this.#send();
  }

  detach(): void {
    this.#link = undefined;
    this.#beat?.cancel();
  }

  #sendNews(): void {
    if (this.#hasNews()) void this.#send();
  }

  #hasNews(): boolean {
    const { statuses, gone, full, applied } = this.#report();
    const told = this.#acknowledged;
    if (JSON.stringify(this.#facts) !== JSON.stringify(told.facts)) return true;
    return full || statuses.length > 0 || gone.length > 0 || applied !== told.applied;
  }

  #report(): Report {
    const told = this.#acknowledged.statuses ?? new Map<string, TaskStatus>();
    const current = this.#statuses ?? new Map<string, TaskStatus>();
    return {
      seq: this.#seq,
      statuses: [...current.values()].filter((status) => !same(status, told.get(status.taskId))),
      gone: [...told.keys()].filter((taskId) => !current.has(taskId)),
      full: this.#acknowledged.statuses === undefined && this.#statuses !== undefined,
      ...this.#facts,
      applied: this.#applied,
    };
  }

  /** One report at a time; what comes up meanwhile goes with the next. */
  async #send(): Promise<void> {
    const link = this.#link;
    if (link === undefined || this.#sending) return;
    this.#sending = true;
    this.#beat?.cancel();
    this.#seq++;
    const [report, statuses, facts] = [this.#report(), this.#statuses, this.#facts];
    let failed = false;
    try {
      await link.send(report);
      if (this.#link === link) this.#acknowledged = { statuses, facts, applied: report.applied };
    } catch (error) {
      failed = true;
      if (this.#link === link) link.failed(error);
    }
    this.#sending = false;
    this.#scheduleNext(link, failed);
  }

  #scheduleNext(link: ReportLink, failed: boolean): void {
    if (this.#link === undefined) return;
    const isNewLink = this.#link !== link;
    if (isNewLink || (!failed && this.#hasNews())) void this.#send();
    else this.#beat = this.#clock.after(failed ? RETRY_MS : this.#link.beatMs, () => void this.#send());
  }
}

function same(a: TaskStatus, b: TaskStatus | undefined): boolean {
  return JSON.stringify(a) === JSON.stringify(b);
}
