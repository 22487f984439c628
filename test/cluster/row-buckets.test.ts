// Digests of what a state has for nodes: the same for the same rows, and another one where a row is another.
import test from "ava";
import fc from "fast-check";
import { bucketOf, encodeBuckets, inBuckets, RowBuckets } from "../../src/cluster/row-buckets.ts";
import type { Change } from "../../src/cluster/schema.ts";
import { emptyState } from "../../src/cluster/state.ts";
import { networkRow, putNetwork } from "./rows.ts";

const put = (i: number, internal: boolean): Change => ({
  ...{ kind: "networks", key: networkRow(i).id },
  row: { ...networkRow(i), internal },
});

test("after any changes the digests are those of the state", (t) => {
  const one = fc.record({ i: fc.nat(40), row: fc.constantFrom(true, false, null) });
  fc.assert(
    fc.property(fc.array(fc.array(one, { maxLength: 8 }), { maxLength: 8 }), (commits) => {
      const state = emptyState();
      const kept = RowBuckets.of(state);
      for (const [revision, commit] of commits.entries()) {
        const changes = commit.map(({ i, row }): Change => {
          return row === null ? { kind: "networks", key: networkRow(i).id, row } : put(i, row);
        });
        kept.changed(state.apply(changes, revision + 1));
        t.deepEqual(kept.digests(), RowBuckets.of(state).digests());
      }
    }),
    { numRuns: 60 },
  );
});

test("the order of rows, and of what is in them, makes no difference", (t) => {
  const [a, b] = [emptyState(), emptyState()];
  const rows = Array.from({ length: 50 }, (_, i) => putNetwork(i));
  a.apply(rows, 1);
  const turned = rows.map((change) => {
    const entries = Object.entries(change.row!).reverse();
    return { ...change, row: Object.fromEntries(entries) } as Change;
  });
  b.apply(turned.reverse(), 9);
  t.deepEqual(RowBuckets.of(a).digests(), RowBuckets.of(b).digests());
});

test("one row that is another makes its bucket another, and no other one", (t) => {
  const [a, b] = [emptyState(), emptyState()];
  const rows = Array.from({ length: 3000 }, (_, i) => putNetwork(i));
  a.apply(rows, 1);
  b.apply([...rows, put(7, true)], 1);
  const same = RowBuckets.of(a).sameAs(RowBuckets.of(b).digests());
  const { id } = networkRow(7);
  t.deepEqual([same.get("networks")!.size, same.get("tasks")!.size], [255, 256]);
  t.false(same.get("networks")!.has(bucketOf(id)));
  const isSame = inBuckets(encodeBuckets(same).networks!);
  t.deepEqual(
    rows.filter(({ key }) => !isSame(key)).length,
    rows.filter(({ key }) => bucketOf(key) === bucketOf(id)).length,
  );
});

test("digests of another form are those of nothing that is the same", (t) => {
  const state = emptyState();
  state.apply([putNetwork(1)], 1);
  const others: Record<string, string>[] = [
    {},
    { networks: "" },
    { networks: "not base64" },
    { networks: "A".repeat(9000) },
  ];
  for (const other of others) {
    t.is(RowBuckets.of(state).sameAs(other).get("networks")!.size, 0);
  }
});
