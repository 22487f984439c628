// The progress of a service is answered when it has changed, and what changes elsewhere wakes no client.
import test from "ava";
import { ApiClient } from "../../src/api/client.ts";
import type { Change } from "../../src/cluster/schema.ts";
import { FakeBackend, id, networkRow, nodeRow, put, served, serviceRow, statusRow, taskRow } from "./fake-backend.ts";

/** Longer than any test takes: an answer comes for its news. */
const NEVER_MS = 60_000;

const task = taskRow("search", 1, "node1");
const other = taskRow("other", 1, "node1");

function backendOf(): FakeBackend {
  const rows = [networkRow("web")].map(put.network);
  const services = ["search", "other"].map((name) => put.service(serviceRow(name)));
  return new FakeBackend([put.node(nodeRow("node1")), ...rows, ...services, put.task(task), put.task(other)]);
}

const news: [what: string, change: Change][] = [
  ["its task's status", put.status(statusRow(task, "running"))],
  ["a task of its own", put.task(taskRow("search", 2, "node1"))],
  ["a task that is gone", { kind: "tasks", key: task.id, row: null }],
  ["its replicas", put.service(serviceRow("search", { replicas: 5 }))],
  ["a node", put.node(nodeRow("node1", { state: "down" }))],
];
for (const [what, change] of news) {
  test(`a client that waits is answered at a change of ${what}`, async (t) => {
    const backend = backendOf();
    const api = new ApiClient(await served(t, backend));
    const first = await api.progress("search");
    const waiting = api.progress("search", { unless: first.token, waitMs: NEVER_MS });
    // Another change first: the answer has both.
    await backend.listened();
    backend.change(put.status(statusRow(other, "running")));
    backend.change(change);
    const { token, revision } = await waiting;
    t.not(token, first.token);
    t.is(revision, first.revision + 2);
  });
}

test("a client that waits hears how far a task is that is being prepared", async (t) => {
  const backend = backendOf();
  const api = new ApiClient(await served(t, backend));
  backend.change(put.status(statusRow(task, "preparing", { message: "pulling web:1" })));
  const { token } = await api.progress("search");
  const waiting = api.progress("search", { unless: token, waitMs: NEVER_MS });
  await backend.listened();
  backend.preparations.set(task.id, "pulling web:1: 3.0 of 9.0 MB");
  t.is((await waiting).tasks[0]?.message, "pulling web:1: 3.0 of 9.0 MB");
});

test("a client that has seen another progress is answered at once", async (t) => {
  const api = new ApiClient(await served(t, backendOf()));
  const { token } = await api.progress("search", { unless: "another", waitMs: NEVER_MS });
  t.is((await api.progress("search", { waitMs: NEVER_MS })).token, token);
});

test("without news the answer is the same, when its time is up", async (t) => {
  const backend = backendOf();
  const api = new ApiClient(await served(t, backend));
  const { token } = await api.progress("search");
  const waiting = api.progress("search", { unless: token, waitMs: 500 });
  await backend.listened();
  backend.change(put.status(statusRow(other, "running")));
  t.is((await waiting).token, token);
  t.is(backend.listeners, 0);
});

test("a service that is removed meanwhile ends the wait", async (t) => {
  const backend = backendOf();
  const api = new ApiClient(await served(t, backend));
  const { token } = await api.progress("search");
  const waiting = api.progress("search", { unless: token, waitMs: NEVER_MS });
  await backend.listened();
  backend.change({ kind: "services", key: id("search"), row: null });
  await t.throwsAsync(waiting, { message: /no such service/ });
  t.is(backend.listeners, 0);
});
