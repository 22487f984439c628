// What clients asked of the managers and were answered, and the judgement of it: each write adds a value of its own, each read
// gives all values. Times are of one monotonic clock, that of the process that records.

export interface Operation {
  /** Who asked; a client has one operation at a time. */
  client: string;
  /** Which manager was asked. */
  manager: string;
  /** The value that a write adds; undefined: it is a read. */
  value: string | undefined;
  invoked: number;
  returned: number;
  /** `fail`: nothing was changed, and never will be. `unknown`: it may have been done, or be done yet. */
  outcome: "ok" | "fail" | "unknown";
  /** The state's revision of an operation that is `ok`. */
  revision: number;
  /** Which leadership answered: no two have the same. */
  term: string;
  /** What a read that is `ok` gave. */
  seen: ReadonlySet<string>;
}

/** What the store has in the end. */
export interface Final {
  revision: number;
  values: ReadonlySet<string>;
}

type Asked = Pick<Operation, "client" | "manager" | "value">;
type Answer = Partial<Pick<Operation, "revision" | "term" | "seen">>;

export class History {
  // BOUNDED: by one run of a test.
  readonly operations: Operation[] = [];
  readonly #now: () => number;

  constructor(now: () => number = () => performance.now()) {
    this.#now = now;
  }

  /** The operation begins. It is `unknown` until the returned function says how it ended. */
  invoke(asked: Asked): (outcome: Operation["outcome"], answer?: Answer) => void {
    const nothing = { revision: 0, term: "", seen: new Set<string>() };
    const invoked = this.#now();
    const begun: Operation = { ...asked, ...nothing, invoked, returned: Number.POSITIVE_INFINITY, outcome: "unknown" };
    this.operations.push(begun);
    return (outcome, answer = {}) => Object.assign(begun, answer, { outcome, returned: this.#now() });
  }
}

/**
 * What is wrong, in words; nothing when all is well. Reads of the leader may lack no write that was acknowledged before; those
 * of managers' own copies none that the same manager acknowledged.
 */
export function judge(
  operations: readonly Operation[],
  final: Final,
  reader: "leader" | "copies" = "leader",
): string[] {
  const writes = operations.filter(({ value }) => value !== undefined);
  const reads = operations.filter(({ value, outcome }) => value === undefined && outcome === "ok");
  return [
    ...lostWrites(writes, final),
    ...madeUp(writes, final),
    ...interleaved(writes),
    ...staleReads(writes, reads, reader),
    ...vanished(reads, final),
  ];
}

function lostWrites(writes: readonly Operation[], final: Final): string[] {
  return writes.flatMap(({ value, outcome, revision, term }) => {
    if (outcome !== "ok") return [];
    if (revision > final.revision)
      return [`${value} was acknowledged at revision ${revision}, and the state ends at ${final.revision}`];
    return final.values.has(value!) ? [] : [`lost: ${value} was acknowledged at revision ${revision} by ${term}`];
  });
}

/** The store has what no client asked for, or what a client was told is not there. */
function madeUp(writes: readonly Operation[], final: Final): string[] {
  const outcomes = new Map(writes.map(({ value, outcome }) => [value!, outcome]));
  return [...final.values].flatMap((value) => {
    const outcome = outcomes.get(value);
    if (outcome === undefined) return [`made up: no client wrote ${value}`];
    return outcome === "fail" ? [`refused and done: ${value}`] : [];
  });
}

/** A leadership that begins at a revision has all revisions from there to its end. */
function interleaved(writes: readonly Operation[]): string[] {
  const acknowledged = writes.filter(({ outcome }) => outcome === "ok").toSorted((a, b) => a.revision - b.revision);
  const found: string[] = [];
  const over = new Set<string>();
  let last: Operation | undefined;
  for (const write of acknowledged) {
    const { revision, term } = write;
    if (last !== undefined && last.term !== term) {
      if (last.revision === revision) found.push(`two leaders: revision ${revision} is of ${last.term} and of ${term}`);
      over.add(last.term);
      if (over.has(term)) found.push(`interleaved: ${term} wrote revision ${revision} after ${last.term} had written`);
    }
    last = write;
  }
  return found;
}

/** A read lacks a write that was acknowledged before it was asked, or is older than a read before it through the same manager. */
function staleReads(writes: readonly Operation[], reads: readonly Operation[], reader: "leader" | "copies"): string[] {
  const found: string[] = [];
  const acknowledged = writes.filter(({ outcome }) => outcome === "ok");
  for (const read of reads) {
    const lacking = acknowledged.filter(
      ({ value, returned, manager }) =>
        returned < read.invoked && !read.seen.has(value!) && (reader === "leader" || manager === read.manager),
    );
    const [first] = lacking;
    if (first === undefined) continue;
    const where = first.manager === read.manager ? "the same manager" : first.manager;
    const more = lacking.length === 1 ? "" : `, and ${lacking.length - 1} more`;
    found.push(
      `stale: a read of ${read.manager} at revision ${read.revision} lacks ${first.value}, acknowledged by ${where}${more}`,
    );
  }
  // BOUNDED: by the managers; keyed by manager. The newest revision that a read which has ended gave.
  const newest = new Map<string, number>();
  const events = reads.flatMap((read) => [
    { at: read.invoked, read, isEnd: false },
    { at: read.returned, read, isEnd: true },
  ]);
  // BOUNDED: by the reads. What was the newest when the read was asked.
  const before = new Map<Operation, number>();
  for (const { read, isEnd } of events.toSorted((a, b) => a.at - b.at)) {
    const revision = newest.get(read.manager) ?? 0;
    if (!isEnd) before.set(read, revision);
    else newest.set(read.manager, Math.max(revision, read.revision));
    if (isEnd && read.revision < before.get(read)!) {
      found.push(
        `back in time: a read of ${read.manager} at revision ${read.revision} after one at ${before.get(read)}`,
      );
    }
  }
  return found;
}

/** What a read gave was in the state for ever: no client removes anything. */
function vanished(reads: readonly Operation[], final: Final): string[] {
  const seen = new Set(reads.flatMap((read) => [...read.seen]));
  return [...seen]
    .filter((value) => !final.values.has(value))
    .map((value) => `vanished: ${value} was read, and is gone`);
}
