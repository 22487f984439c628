// The progress of a service: its lines, how they are drawn, and when it ends.
import test, { type ExecutionContext } from "ava";
import { ApiClient } from "../../src/api/client.ts";
import type { TaskView } from "../../src/api/schema.ts";
import type { Context } from "../../src/cli/context.ts";
import { awaitConverged, progressLines } from "../../src/cli/progress.ts";
import type { Service, TaskStatus } from "../../src/cluster/schema.ts";
import {
  FakeBackend,
  id,
  networkRow,
  nodeRow,
  put,
  served,
  serviceRow,
  statusRow,
  taskRow,
} from "../api/fake-backend.ts";

const tasks = [1, 2].map((slot) => taskRow("search", slot, "node1"));

type States = [state: TaskStatus["state"], error?: string][];

/** With a port, so that a task that runs is known to take connections. */
function withStates(...states: States): FakeBackend {
  return serviceWith([{ published: 80, target: 80, protocol: "tcp", mode: "ingress", address: null }], ...states);
}

function serviceWith(ports: Service["ports"], ...states: States): FakeBackend {
  const backend = new FakeBackend([
    put.node(nodeRow("node1")),
    put.network(networkRow("web")),
    put.service(serviceRow("search", { replicas: 2, ports })),
    ...tasks.map(put.task),
  ]);
  backend.change(...statuses(...states));
  return backend;
}

function statuses(...states: [state: TaskStatus["state"], error?: string][]) {
  return states.map(([state, error = null], i) => put.status(statusRow(tasks[i]!, state, { error })));
}

/** A screen of `columns`, or none. Each wait for news runs the next step soon, or lasts until its end. */
async function screen(
  t: ExecutionContext,
  backend: FakeBackend,
  columns: number | undefined,
  steps: (() => void)[] = [],
) {
  const api = new ApiClient(await served(t, backend));
  const { progress } = api;
  api.progress = (service, { waitMs = 0 } = {}) => {
    const step = waitMs > 0 ? steps.shift() : undefined;
    now += step === undefined ? waitMs : Math.min(waitMs, 200);
    step?.();
    return progress(service);
  };
  let now = 0;
  const written: string[] = [];
  const context: Context = {
    api: () => api,
    out: (text) => void written.push(text),
    err: () => t.fail(),
    columns: () => columns,
    now: () => now,
    monotonic: () => now,
    pause: async () => t.fail(),
    onInterrupt: () => () => {},
  };
  return { context, written };
}

const FULL = `[${"=".repeat(50)}>]`;

test("plain lines are printed as they change, and end with the barrier", async (t) => {
  const backend = withStates(["preparing"]);
  const { context, written } = await screen(t, backend, undefined, [
    () => backend.change(...statuses(["running"], ["failed", "exec: no such file 'foo'"])),
    () => {
      backend.behind = "node 'node2' has not applied it";
      backend.change(...statuses(["running"], ["running"]));
    },
    () => {
      backend.behind = undefined;
    },
  ]);
  await awaitConverged(context, "search", undefined);
  t.deepEqual(written.join("").trimEnd().split("\n"), [
    "overall progress: 0 out of 2 tasks",
    "1/2: preparing",
    "2/2: pending",
    "overall progress: 1 out of 2 tasks",
    "1/2: running",
    "2/2: failed    exec: no such file 'foo'",
    "overall progress: 2 out of 2 tasks",
    "2/2: running",
    "verify: waiting until every node has it in force",
    "verify: node 'node2' has not applied it",
    "verify: waiting until every node has it in force",
    "verify: Service converged",
  ]);
});

test("tasks of which nothing more is known than that they run are watched for 5 seconds", async (t) => {
  const backend = serviceWith([], ["running"], ["running"]);
  const { context, written } = await screen(t, backend, undefined, [
    () => backend.change(...statuses(["running"], ["failed", "exit status 1"])),
    () => backend.change(...statuses(["running"], ["running"])),
  ]);
  await awaitConverged(context, "search", undefined);
  t.true(context.monotonic() >= 5000);
  t.deepEqual(written.join("").trimEnd().split("\n"), [
    "overall progress: 2 out of 2 tasks",
    "1/2: running",
    "2/2: running",
    "verify: waiting 5 seconds to see that tasks are stable",
    "overall progress: 1 out of 2 tasks",
    "2/2: failed    exit status 1",
    "overall progress: 2 out of 2 tasks",
    "2/2: running",
    "verify: waiting 5 seconds to see that tasks are stable",
    "verify: waiting until every node has it in force",
    "verify: Service converged",
  ]);
});

test("tasks that have run for longer are not watched", async (t) => {
  const { context, written } = await screen(t, serviceWith([], ["running"], ["running"]), undefined);
  await awaitConverged({ ...context, now: () => 3600_000_000_000_000 }, "search", undefined);
  t.notRegex(written.join(""), /stable/);
});

test("on a terminal the lines are drawn again in place", async (t) => {
  const backend = withStates(["running"], ["starting"]);
  const { context, written } = await screen(t, backend, 80, [
    () => backend.change(...statuses(["running"], ["running"])),
  ]);
  await awaitConverged(context, "search", undefined);
  const line = (text: string) => `\r\x1b[2K${text}\n`;
  const half = `[${`${"=".repeat(38)}>`.padEnd(51)}]`;
  const running = [
    line("overall progress: 2 out of 2 tasks"),
    line(`1/2: running   ${FULL}`),
    line(`2/2: running   ${FULL}`),
  ];
  t.deepEqual(written, [
    `${line("overall progress: 1 out of 2 tasks")}${line(`1/2: running   ${FULL}`)}${line(`2/2: starting  ${half}`)}\x1b[J`,
    `\x1b[3A${running.join("")}${line("verify: waiting until every node has it in force")}\x1b[J`,
    `\x1b[4A${running.join("")}${line("verify: Service converged")}\x1b[J`,
  ]);
});

test("a line never wraps on a terminal", async (t) => {
  const backend = withStates(["running"], ["failed", "x".repeat(200)]);
  const { context, written } = await screen(t, backend, 40);
  await t.throwsAsync(awaitConverged(context, "search", 0));
  t.true(written[0]!.split("\n").every((line) => line.replace("\r\x1b[2K", "").length < 40));
});

test("when time is up the error says which task is late, and why", async (t) => {
  const { context } = await screen(t, withStates(["running"], ["rejected", "exec: no such file 'foo'"]), undefined);
  await t.throwsAsync(awaitConverged(context, "search", 500), {
    message: "not converged in time: search.2 is rejected: exec: no such file 'foo'",
  });
});

test("when time is up the error says which node is behind", async (t) => {
  const backend = withStates(["running"], ["running"]);
  backend.behind = "node 'node2' has not applied it";
  const { context } = await screen(t, backend, undefined);
  await t.throwsAsync(awaitConverged(context, "search", 500), { message: /node 'node2' has not applied it/ });
});

test("a service that is removed meanwhile ends the wait", async (t) => {
  const backend = withStates(["preparing"]);
  const { context } = await screen(t, backend, undefined, [
    () => backend.change({ kind: "services", key: id("search"), row: null }),
  ]);
  await t.throwsAsync(awaitConverged(context, "search", undefined), { message: "no such service: search" });
});

test("a service without tasks converges", async (t) => {
  const backend = withStates();
  backend.change(
    put.service(serviceRow("search", { replicas: 0 })),
    ...tasks.map((task) => put.task({ ...task, desired: "shutdown" })),
  );
  const { context, written } = await screen(t, backend, undefined);
  await awaitConverged(context, "search", undefined);
  t.true(written.join("").endsWith("verify: Service converged\n"));
});

test("a task on a node that is down is not counted", async (t) => {
  const backend = withStates(["running"], ["running"]);
  backend.change(put.node(nodeRow("node1", { state: "down" })));
  const { context } = await screen(t, backend, undefined);
  await t.throwsAsync(awaitConverged(context, "search", 0), { message: /search\.1 is running on a node that is down/ });
});

test("with more than twenty tasks only those that fail have a line", (t) => {
  const task: TaskView = {
    id: "t",
    name: "search.7",
    service: "search",
    slot: 7,
    image: null,
    command: [],
    node: "node1",
    nodeReady: true,
    desired: "running",
    state: "failed",
    since: 0,
    error: "exit status 1",
    exitCode: 1,
    message: null,
    restarts: 2,
    addresses: [],
    ports: [],
    createdAt: 0,
  };
  t.deepEqual(progressLines({ revision: 1, replicas: 21, tasks: [task], provesReady: false, token: "" }), [
    "overall progress: 0 out of 21 tasks",
    "search.7: failed: exit status 1",
  ]);
});
