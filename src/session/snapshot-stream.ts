// A state as it comes in lines, from the leader or from this node's disk: a snapshot piece by piece, then changes. What does
// not fit what came before is refused as a whole, so that the state here is always one that the leader had.
import { isDeepStrictEqual } from "node:util";
import { derivedIdentity } from "../cluster/identity.ts";
import { type BucketSets, inBuckets } from "../cluster/row-buckets.ts";
import { type Change, type ClusterIdentity, type Kind, NODE_KINDS } from "../cluster/schema.ts";
import { commonRow } from "../cluster/secret-rows.ts";
import { checkedRow, emptyState, type LiveState, parseChanges, parseRows } from "../cluster/state.ts";
import type { State } from "../cluster/tables.ts";
import { counted } from "../lib/counted.ts";

interface SnapshotHead {
  revision: number;
  cluster: ClusterIdentity | null;
  /** How many rows the snapshot has. */
  rows: number;
}

/** A snapshot that has not come to its end. */
export class IncomingSnapshot {
  readonly #head: SnapshotHead;
  readonly #before: State;
  readonly #rowOf: typeof checkedRow;
  readonly #state = emptyState();
  /** How many rows were of kinds that this version does not know. */
  #passedOver = 0;

  /** Rows that are as in the state `before` are the same objects, so that the comparison of the two states finds them quickly. */
  constructor(head: SnapshotHead, before: State = emptyState(), rowOf = checkedRow) {
    this.#head = head;
    this.#before = before;
    this.#rowOf = rowOf;
    this.#state.cluster = head.cluster;
  }

  /** Rows of a kind that this version does not know are passed over. Throws ZodError, and Error for a row that came before. */
  add(kind: string, rows: readonly unknown[]): void {
    if (!isForThisVersion(kind)) {
      this.#passedOver += rows.length;
      return;
    }
    const puts = parseRows(kind, rows, this.#rowOf).map((put) => this.#asBefore(put));
    const applied = this.#state.apply(puts, this.#head.revision);
    const twice = applied.find(({ before }) => before !== undefined);
    if (twice !== undefined) throw new Error(`the snapshot has two rows of ${kind} with the key ${twice.key}`);
  }

  /** Adds the rows of these buckets that the state before has, but for those that came. A secret comes, or this node may not have it. */
  keep(buckets: BucketSets): void {
    for (const [kind, text] of Object.entries(buckets)) {
      if (!isForThisVersion(kind)) continue;
      const isKept = inBuckets(text);
      const rows = [...this.#before[kind]].filter(([key]) => isKept(key) && !this.#state[kind].has(key));
      const puts = rows.map(([key, row]) => ({ kind, key, row: commonRow(kind, row) }) as Change);
      this.#state.apply(puts, this.#head.revision);
    }
  }

  /** The state, once all of it has come. Throws Error when rows are missing. */
  finish(): LiveState {
    const { revision, rows } = this.#head;
    const state = this.#state;
    const count = countRows(state) + this.#passedOver;
    if (count !== rows) throw new Error(`the snapshot has ${counted(count, "row")} of ${rows}`);
    state.revision = revision;
    state.cluster ??= derivedIdentity(state);
    return state;
  }

  #asBefore(put: Change): Change {
    const row = this.#before[put.kind].get(put.key);
    return isDeepStrictEqual(row, put.row) ? ({ ...put, row } as Change) : put;
  }
}

interface ChangesLine {
  /** The revision of the line before. */
  after: number;
  revision: number;
  changes: unknown;
}

/** What leads from `state` to the line's revision. Throws ZodError, and Error when it does not follow on `state`. */
export function changesFrom(state: State, { after, revision, changes }: ChangesLine, rowOf = checkedRow): Change[] {
  if (after !== state.revision || revision <= after) {
    throw new Error(`the changes from revision ${after} to ${revision} do not follow on revision ${state.revision}`);
  }
  const known = Array.isArray(changes) ? changes.filter(({ kind }) => isForThisVersion(kind)) : changes;
  const parsed = parseChanges(known, rowOf);
  const lost = parsed.find(({ kind, key, row }) => row === null && !state[kind].has(key));
  if (lost !== undefined) throw new Error(`revision ${revision} deletes a row of ${lost.kind} that is not here`);
  return parsed;
}

/** Whether rows of the kind are for nodes, and this version knows them: a later version may have more kinds. */
function isForThisVersion(kind: unknown): kind is Kind {
  return (NODE_KINDS as readonly unknown[]).includes(kind);
}

/** How many rows of the state are for nodes. */
export function countRows(state: State): number {
  return NODE_KINDS.reduce((count, kind) => count + state[kind].size, 0);
}
