// What goes wrong, put into a history that was recorded while nothing did: the judge of that history has to find each.
import type { Final, Operation } from "./history.ts";

interface Recorded {
  operations: readonly Operation[];
  final: Final;
}

interface Injected {
  title: string;
  /** Returns the history with the mistake. */
  inject(recorded: Recorded): Recorded;
  /** What the judge says of it. */
  says: RegExp;
}

export const INJECTED: readonly Injected[] = [
  {
    title: "a write that was acknowledged is not in the store",
    inject: ({ operations, final }) => {
      const values = new Set(final.values);
      values.delete(middle(acknowledged(operations)).value!);
      return { operations, final: { ...final, values } };
    },
    says: /^lost: /m,
  },
  {
    title: "a write that was acknowledged is newer than the store",
    inject: ({ operations, final }) => {
      const newest = acknowledged(operations).at(-1)!;
      return { operations, final: { ...final, revision: newest.revision - 1 } };
    },
    says: /was acknowledged at revision \d+, and the state ends at \d+/,
  },
  {
    title: "a write that was acknowledged is told as refused",
    inject: ({ operations, final }) => {
      const write = middle(acknowledged(operations));
      return { operations: changed(operations, write, { outcome: "fail" }), final };
    },
    says: /^refused and done: /m,
  },
  {
    title: "a leader that another one has followed writes once more",
    inject: ({ operations, final }) => {
      const writes = acknowledged(operations);
      const last = writes.at(-1)!;
      const earlier = writes.find(({ term }) => term !== last.term)!;
      return { operations: changed(operations, last, { term: earlier.term }), final };
    },
    says: /^interleaved: /m,
  },
  {
    title: "two leaders acknowledge one revision",
    inject: ({ operations, final }) => {
      const writes = acknowledged(operations);
      const i = writes.findIndex(({ term }, at) => at > 0 && term !== writes[at - 1]!.term);
      return { operations: changed(operations, writes[i]!, { revision: writes[i - 1]!.revision }), final };
    },
    says: /^two leaders: revision \d+ is of /m,
  },
  {
    title: "a read lacks what the same manager acknowledged before it",
    inject: ({ operations, final }) => lacking(operations, final, (read, write) => read.manager === write.manager),
    says: /^stale: .* acknowledged by the same manager/m,
  },
  {
    title: "a read lacks what another manager acknowledged before it",
    inject: ({ operations, final }) => lacking(operations, final, (read, write) => read.manager !== write.manager),
    says: /^stale: .* acknowledged by m\d/m,
  },
  {
    title: "a manager's reads go back in time",
    inject: ({ operations, final }) => {
      const last = reads(operations).at(-1)!;
      return { operations: changed(operations, last, { revision: 1 }), final };
    },
    says: /^back in time: /m,
  },
  {
    title: "the store has what no client wrote",
    inject: ({ operations, final }) => ({
      operations,
      final: { ...final, values: new Set([...final.values, "nobody's"]) },
    }),
    says: /^made up: no client wrote nobody's/m,
  },
  {
    title: "what a read gave is gone",
    inject: ({ operations, final }) => {
      const last = reads(operations).at(-1)!;
      return { operations: changed(operations, last, { seen: new Set([...last.seen, "gone"]) }), final };
    },
    says: /^vanished: gone was read, and is gone/m,
  },
];

function acknowledged(operations: readonly Operation[]): Operation[] {
  const writes = operations.filter(({ value, outcome }) => value !== undefined && outcome === "ok");
  return writes.toSorted((a, b) => a.revision - b.revision);
}

function reads(operations: readonly Operation[]): Operation[] {
  return operations.filter(({ value, outcome }) => value === undefined && outcome === "ok");
}

function middle<T>(values: readonly T[]): T {
  return values[values.length >> 1]!;
}

function changed(operations: readonly Operation[], one: Operation, change: Partial<Operation>): Operation[] {
  return operations.map((operation) => (operation === one ? { ...operation, ...change } : operation));
}

/** One of the reads lacks one of the writes that were acknowledged before it. */
function lacking(
  operations: readonly Operation[],
  final: Final,
  fits: (read: Operation, write: Operation) => boolean,
): Recorded {
  for (const read of reads(operations).toReversed()) {
    const write = acknowledged(operations).find((write) => write.returned < read.invoked && fits(read, write));
    if (write === undefined) continue;
    const seen = new Set(read.seen);
    seen.delete(write.value!);
    return { operations: changed(operations, read, { seen }), final };
  }
  throw new Error("no read of this history comes after such a write");
}
