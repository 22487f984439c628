// What the agent tells the leader, and when: all statuses at once, without waiting for a task that it cannot look at.
import test from "ava";
import { TaskStatuses } from "../../src/agent/task-statuses.ts";
import type { TaskStatus } from "../../src/cluster/schema.ts";
import { VirtualClock } from "../fakes/virtual-clock.ts";

const status = (taskId: string, since = 0): TaskStatus => ({
  taskId,
  nodeId: "n",
  state: "running",
  since,
  error: null,
  exitCode: null,
  message: null,
  restarts: 0,
});

test("statuses are told when every task was looked at", (t) => {
  const told: string[][] = [];
  const report = (rows: readonly TaskStatus[]) => void told.push(rows.map(({ taskId }) => taskId));
  const statuses = new TaskStatuses({ clock: new VirtualClock(), report, changed: () => {} });
  statuses.expect(new Set(["a", "b"]), new Map());
  statuses.set(status("a"));
  t.deepEqual(told, []);
  statuses.set(status("b"));
  t.deepEqual(told, [["a", "b"]]);
});

test("a task that cannot be looked at does not hold the others back, and is told as the cluster knows it", async (t) => {
  const clock = new VirtualClock();
  let told: readonly TaskStatus[] = [];
  const report = (rows: readonly TaskStatus[]) => {
    told = rows;
  };
  const statuses = new TaskStatuses({ clock, report, changed: () => {} });
  statuses.expect(new Set(["a", "hung", "new"]), new Map([["hung", status("hung", 7)]]));
  statuses.set(status("a"));
  await clock.advance(2000);
  t.deepEqual(told, []);
  await clock.advance(2000);
  t.deepEqual(told, [status("a"), status("hung", 7)]);
  statuses.set(status("a", 9));
  t.deepEqual(told, [status("a", 9), status("hung", 7)]);
  statuses.set(status("hung", 10));
  t.deepEqual(told, [status("a", 9), status("hung", 10)]);
});

test("after the stop the deadline of the first look tells nothing", async (t) => {
  const clock = new VirtualClock();
  const told: (readonly TaskStatus[])[] = [];
  const statuses = new TaskStatuses({ clock, report: (rows) => void told.push(rows), changed: () => {} });
  statuses.expect(new Set(["hung"]), new Map());
  statuses.stop();
  await clock.advance(10_000);
  t.deepEqual(told, []);
});
