// The move of the state to another store, broken off everywhere: there is one truth, and it has all that was acknowledged.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { rm } from "node:fs/promises";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import test, { type ExecutionContext } from "ava";
import { openEmbeddedStore } from "../../src/leader/embedded-store.ts";
import { type MoveStep, type MoveTarget, moveStore, openStore } from "../../src/leader/move-store.ts";
import type { Store } from "../../src/leader/store.ts";
import { UserError } from "../../src/lib/errors.ts";
import { silentLog } from "../../src/lib/log.ts";
import { SEAL_KEY } from "../fakes/founding.ts";
import { MemoryStore } from "../fakes/memory-store.ts";
import { VirtualClock } from "../fakes/virtual-clock.ts";
import { temporaryDirectory } from "../temporary.ts";
import { Cluster } from "./cluster-fixture.ts";

const MOVER = fileURLToPath(new URL("./store-mover.js", import.meta.url));
const BEFORE: readonly MoveStep[] = ["check", "begin", "join", "copy", "give away"];

async function withDirectory(use: (directory: string) => Promise<void>): Promise<void> {
  const directory = temporaryDirectory("move");
  try {
    await use(directory);
  } finally {
    await rm(directory, { recursive: true });
  }
}

/** Runs the mover until it kills itself before `step`. Resolves with the networks that it acknowledged. */
async function moveUntilKilled(directory: string, step: string): Promise<string[]> {
  const child = spawn(process.execPath, [MOVER, directory, step], { stdio: ["ignore", "pipe", "inherit"] });
  const exited = once(child, "exit");
  const acknowledged: string[] = [];
  for await (const line of createInterface({ input: child.stdout })) acknowledged.push(line);
  const [, signal] = await exited;
  if (signal !== "SIGKILL") throw new Error("the mover failed");
  return acknowledged;
}

async function requireAll(t: ExecutionContext, directory: string, acknowledged: readonly string[]): Promise<void> {
  const from = await openEmbeddedStore(join(directory, "from"), SEAL_KEY);
  const { moved } = from;
  const store = moved === undefined ? from : await openEmbeddedStore(join(directory, "to"), SEAL_KEY);
  const leadership = await store.campaign();
  if (moved !== undefined) {
    await openStore(store, moved.cluster, leadership, { clock: new VirtualClock(), log: silentLog });
  }
  const state = await store.load();
  if (moved !== undefined) t.deepEqual(state.cluster, moved.cluster);
  const names = new Set([...state.networks.values()].map(({ name }) => name));
  t.deepEqual(
    acknowledged.filter((name) => !names.has(name)),
    [],
  );
  await store.close();
  if (store !== from) await from.close();
}

for (const step of BEFORE) {
  test(`killed before '${step}', the file leads with all that was acknowledged`, async (t) => {
    await withDirectory(async (directory) => {
      const acknowledged = await moveUntilKilled(directory, step);
      const from = await openEmbeddedStore(join(directory, "from"), SEAL_KEY);
      t.is(from.moved, undefined);
      await from.close();
      await requireAll(t, directory, acknowledged);
      // The next attempt begins anew.
      await requireAll(t, directory, [...acknowledged, ...(await moveUntilKilled(directory, "open"))]);
    });
  });
}

for (const step of ["open", "never"]) {
  test(`killed ${step === "open" ? "before 'open'" : "after the move"}, the other store leads with all that was acknowledged`, async (t) => {
    await withDirectory(async (directory) => {
      const acknowledged = await moveUntilKilled(directory, step);
      const from = await openEmbeddedStore(join(directory, "from"), SEAL_KEY);
      t.is(from.moved?.store, "etcd");
      await from.close();
      await requireAll(t, directory, acknowledged);
    });
  });
}

interface Setup {
  cluster: Cluster<Store>;
  to: MemoryStore;
  calls: string[];
  move: (changes?: Partial<MoveTarget>, failBefore?: MoveStep) => Promise<void>;
}

async function setUp(directory: string): Promise<Setup> {
  const from = await openEmbeddedStore(directory, SEAL_KEY);
  const cluster = new Cluster<Store>({}, from);
  await cluster.lead();
  const to = new MemoryStore();
  const calls: string[] = [];
  const target: MoveTarget = {
    check: async () => void calls.push("check"),
    begin: async () => ({ store: to, id: "to" }),
    join: async () => void calls.push("join"),
    discard: async () => void calls.push("discard"),
  };
  const move = (changes: Partial<MoveTarget> = {}, failBefore?: MoveStep) =>
    moveStore({
      ...{ from, leader: cluster.leader, clock: cluster.clock, log: silentLog },
      target: { ...target, ...changes },
      step: (step) => {
        if (step === failBefore) throw new Error("a fault");
      },
    });
  return { cluster, to, calls, move };
}

for (const step of BEFORE.slice(1)) {
  test(`a fault before '${step}' leaves all as it was, and what was begun is thrown away`, async (t) => {
    await withDirectory(async (directory) => {
      const { cluster, to, calls, move } = await setUp(directory);
      const error = await t.throwsAsync(move({}, step), { instanceOf: UserError });
      t.regex(error!.message, /^the move to etcd failed, and the store is as it was: a fault$/);
      t.is(calls.at(-1), "discard");
      await cluster.leader.execute({ type: "network.create", name: "after" });
      t.false([...(await to.load()).networks.values()].some(({ name }) => name === "after"));
    });
  });
}

test("a machine that cannot run etcd keeps the move from beginning, with the reason", async (t) => {
  await withDirectory(async (directory) => {
    const { calls, move } = await setUp(directory);
    const check = async () => {
      throw new UserError(409, "node3: 'etcd' does not run");
    };
    await t.throwsAsync(move({ check }), { message: "node3: 'etcd' does not run" });
    t.deepEqual(calls, []);
  });
});

test("what is written meanwhile waits, and is in the other store", async (t) => {
  await withDirectory(async (directory) => {
    const { cluster, to, move } = await setUp(directory);
    const writes: Promise<unknown>[] = [];
    const fill = to.fill.bind(to);
    to.fill = async (state) => {
      writes.push(cluster.leader.execute({ type: "network.create", name: "meanwhile" }));
      await fill(state);
    };
    await move();
    await Promise.all(writes);
    await cluster.leader.execute({ type: "network.create", name: "after" });
    const names = [...(await to.load()).networks.values()].map(({ name }) => name);
    t.true(names.includes("meanwhile"));
    t.true(names.includes("after"));
  });
});

test("a store that gives back other rows than it was given is not moved to", async (t) => {
  await withDirectory(async (directory) => {
    const { to, move } = await setUp(directory);
    const load = to.load.bind(to);
    to.load = async () => {
      const state = await load();
      state.apply([{ kind: "networks", key: [...state.networks.keys()][0]!, row: null }], state.revision);
      return state;
    };
    await t.throwsAsync(move(), { message: /what etcd has is not what was written/ });
  });
});

test("a manager that loses etcd right after the move steps down", async (t) => {
  await withDirectory(async (directory) => {
    const { cluster, to, move } = await setUp(directory);
    await move();
    await to.campaign();
    const error = await t.throwsAsync(cluster.leader.execute({ type: "network.create", name: "late" }));
    t.regex(error!.message, /this manager leads no longer: another manager leads/);
  });
});
