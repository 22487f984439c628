// Which containers of an engine are a node's own.
import test from "ava";
import { isOf } from "../../src/runtime/container-options.ts";

const node = { id: "directory", name: "node1", rowId: "row" };
const labels = (id: string) => ({
  "overlayd.node": "node1",
  "overlayd.node-id": id,
  "overlayd.task": "t",
  "overlayd.role": "task",
});

test("by its data directory whatever row the cluster has of it, and by its row what an earlier version started", (t) => {
  t.true(isOf(node, labels("directory")));
  t.true(isOf({ ...node, rowId: "another" }, labels("directory")));
  t.true(isOf({ ...node, rowId: undefined }, labels("directory")));
  t.true(isOf(node, labels("row")));
});

test("not those of another node, of an attached container, or of nobody", (t) => {
  t.false(isOf(node, labels("elsewhere")));
  t.false(isOf({ ...node, rowId: undefined }, { "overlayd.node": "node1" }));
  const { "overlayd.node-id": _, ...bare } = labels("directory");
  t.false(isOf({ ...node, rowId: undefined }, bare));
});
