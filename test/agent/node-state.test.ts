// The node's state: the leader's rows with this node's own statuses over them, one feed of changes, and what of its statuses
// the leader is told, and when: all at once, without waiting for a task that the agent cannot look at.
import test from "ava";
import { NodeState } from "../../src/agent/node-state.ts";
import type { Change, Task, TaskStatus } from "../../src/cluster/schema.ts";
import { type AppliedChange, emptyState, LiveState } from "../../src/cluster/state.ts";
import type { StatusReports } from "../../src/session/reporter.ts";
import { taskRow } from "../api/fake-backend.ts";
import { seededRandom } from "../fakes/seeded-random.ts";
import { VirtualClock } from "../fakes/virtual-clock.ts";

const OWN = "n";

const status = (taskId: string, since = 0, nodeId = OWN): TaskStatus => ({
  taskId,
  nodeId,
  state: "running",
  since,
  error: null,
  exitCode: null,
  message: null,
  restarts: 0,
});

const putTask = (id: string, nodeId = OWN): Change => {
  const row: Task = { ...taskRow("s", 1, null), id, nodeId };
  return { kind: "tasks", key: id, row };
};
const putStatus = (row: TaskStatus): Change => ({ kind: "statuses", key: row.taskId, row });
const remove = (kind: "tasks" | "statuses", key: string): Change => ({ kind, key, row: null });

/** A session in the place of the real one: its rows, and what it was told to report. */
class Source {
  readonly live = new LiveState();
  nodeId: string | undefined = OWN;
  /** All that the leader knew, each time after it was told something. */
  readonly reported: (readonly TaskStatus[])[] = [];
  readonly #statuses = new Map<string, TaskStatus>();
  #isComplete = false;
  #listener: (changes: readonly AppliedChange[]) => void = () => {};

  constructor(changes: Change[] = []) {
    this.live.apply(changes, 1);
  }

  onChanges(listener: (changes: readonly AppliedChange[]) => void): () => void {
    this.#listener = listener;
    return () => {};
  }

  readonly statusReports: StatusReports = {
    put: (row) => {
      this.#statuses.set(row.taskId, row);
      this.#tell();
    },
    remove: (taskId) => {
      if (this.#statuses.delete(taskId)) this.#tell();
    },
    complete: () => {
      this.#isComplete = true;
      this.#tell();
    },
  };

  #tell(): void {
    if (this.#isComplete) this.reported.push([...this.#statuses.values()]);
  }

  advance(...changes: Change[]): void {
    this.#listener(this.live.apply(changes, this.live.revision + 1));
  }
}

const idsOf = (reports: readonly (readonly TaskStatus[])[]): string[][] =>
  reports.map((rows) => rows.map(({ taskId }) => taskId));

test("statuses are told when every task was looked at", (t) => {
  const source = new Source([putTask("a"), putTask("b"), putTask("c", "other")]);
  const node = new NodeState(source, new VirtualClock());
  node.setStatus(status("a"));
  t.deepEqual(source.reported, []);
  node.setStatus(status("b"));
  t.deepEqual(idsOf(source.reported), [["a", "b"]]);
});

test("a task that cannot be looked at does not hold the others back, and is told as the cluster knows it", async (t) => {
  const clock = new VirtualClock();
  const source = new Source([putTask("a"), putTask("hung"), putTask("new"), putStatus(status("hung", 7))]);
  const node = new NodeState(source, clock);
  node.setStatus(status("a"));
  await clock.advance(2000);
  t.deepEqual(source.reported, []);
  await clock.advance(2000);
  t.deepEqual(source.reported.at(-1), [status("a"), status("hung", 7)]);
  node.setStatus(status("a", 9));
  t.deepEqual(source.reported.at(-1), [status("a", 9), status("hung", 7)]);
  node.setStatus(status("hung", 10));
  t.deepEqual(source.reported.at(-1), [status("a", 9), status("hung", 10)]);
});

test("after the stop the deadline of the first look tells nothing", async (t) => {
  const clock = new VirtualClock();
  const source = new Source([putTask("hung")]);
  const node = new NodeState(source, clock);
  node.stop();
  await clock.advance(10_000);
  t.deepEqual(source.reported, []);
});

test("a node without an id tells nothing, and then what it has seen", (t) => {
  const source = new Source();
  source.nodeId = undefined;
  const node = new NodeState(source, new VirtualClock());
  node.setStatus(status("a"));
  t.deepEqual(source.reported, []);
  source.nodeId = OWN;
  source.advance(putTask("a"));
  t.deepEqual(idsOf(source.reported), [["a"]]);
});

test("the node's own statuses stand before the cluster's, and go with their tasks", (t) => {
  const source = new Source([putTask("a"), putStatus(status("a", 1)), putTask("b", "other")]);
  const node = new NodeState(source, new VirtualClock());
  const heard: AppliedChange[][] = [];
  node.subscribe((changes) => heard.push([...changes]));
  node.setStatus(status("a", 2));
  t.deepEqual(heard.pop(), [{ ...putStatus(status("a", 2)), before: status("a", 1) } as AppliedChange]);
  t.deepEqual(node.state.statuses.get("a"), status("a", 2));

  source.advance(putStatus(status("a", 1)), putStatus(status("b", 5, "other")));
  t.deepEqual(heard.pop(), [{ ...putStatus(status("b", 5, "other")), before: undefined } as AppliedChange]);
  t.deepEqual(node.state.statuses.get("a"), status("a", 2));
  t.is(node.state.revision, source.live.revision);

  source.advance(remove("tasks", "a"), remove("statuses", "a"));
  t.deepEqual(
    heard.pop()!.map(({ kind, key, row, before }) => [kind, key, row, before !== undefined]),
    [
      ["tasks", "a", null, true],
      ["statuses", "a", null, true],
    ],
  );
  t.deepEqual(source.reported.at(-1), []);
  t.deepEqual(node.state.statuses.by("node", OWN), []);
});

test("a status that is earlier here than its task counts when the task comes with the next change, and not later", (t) => {
  const source = new Source();
  const node = new NodeState(source, new VirtualClock());
  node.setStatus(status("early", 3));
  t.false(node.state.statuses.has("early"));
  source.advance(putTask("early"));
  t.deepEqual(node.state.statuses.get("early"), status("early", 3));
  node.setStatus(status("gone", 3));
  source.advance(putTask("other"));
  source.advance(putTask("gone"));
  t.false(node.state.statuses.has("gone"));
});

test("after any changes the state is the leader's with the own statuses over it, and the changes lead to it", (t) => {
  const random = seededRandom(7);
  const pick = (n: number): number => Math.floor(random() * n);
  const source = new Source();
  const node = new NodeState(source, new VirtualClock());
  const followed = emptyState();
  node.subscribe((changes) => {
    for (const change of changes) t.deepEqual(followed[change.kind].get(change.key), change.before);
    followed.apply(changes, node.state.revision);
  });
  const own = new Map<string, TaskStatus>();
  for (let i = 0; i < 3000; i++) {
    const id = `t${pick(8)}`;
    const holder = pick(3) === 0 ? "other" : source.nodeId!;
    const kind = pick(8);
    if (kind === 0) source.advance(remove("tasks", id));
    else if (kind === 1) source.advance(putTask(id, holder), putStatus(status(id, pick(3), holder)));
    else if (kind === 2) source.advance(remove("statuses", id), putTask(`t${pick(8)}`, holder));
    else if (kind === 3) source.advance(putStatus(status(id, pick(3), holder)));
    else if (kind === 4 && pick(10) === 0) {
      source.nodeId = `n${i}`;
      source.advance();
    } else if (source.live.tasks.get(id)?.nodeId === source.nodeId) {
      const seen = status(id, pick(4), source.nodeId);
      own.set(id, seen);
      node.setStatus(seen);
    }
    for (const taskId of own.keys()) if (source.live.tasks.get(taskId)?.nodeId !== source.nodeId) own.delete(taskId);
    const expected = new Map([...source.live.statuses, ...own]);
    t.deepEqual(Object.fromEntries(node.state.statuses), Object.fromEntries(expected));
    t.deepEqual(Object.fromEntries(followed.statuses), Object.fromEntries(expected));
    t.deepEqual(Object.fromEntries(followed.tasks), Object.fromEntries(source.live.tasks));
  }
});
