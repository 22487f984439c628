// The embedded store where it hurts: killed under load, without room, cut short, opened twice.
import { execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { copyFile, readdir, rm, stat, truncate, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import test from "ava";
import type { State } from "../../src/cluster/tables.ts";
import { openEmbeddedStore } from "../../src/leader/embedded-store.ts";
import { PlatformError, UserError } from "../../src/lib/errors.ts";
import { networkRow, PUT_OLDER_SERVICE, putNetwork, SERVICE } from "../cluster/rows.ts";
import { temporaryDirectory } from "../temporary.ts";
import { storeSuite } from "./store-suite.ts";

const run = promisify(execFile);
const WRITER = fileURLToPath(new URL("./store-writer.js", import.meta.url));
const OPENER = fileURLToPath(new URL("./store-opener.js", import.meta.url));

const PAGE_BYTES = 4096;

storeSuite("embedded", async () => {
  const directory = temporaryDirectory("store");
  return { open: () => openEmbeddedStore(directory), remove: () => rm(directory, { recursive: true }) };
});

async function loadFrom(directory: string): Promise<State> {
  const store = await openEmbeddedStore(directory);
  const state = await store.load();
  await store.close();
  return state;
}

test("a service that was made with the PROXY protocol is loaded without it", async (t) => {
  const directory = temporaryDirectory("store");
  const store = await openEmbeddedStore(directory);
  await store.campaign();
  await store.commit([PUT_OLDER_SERVICE], 1);
  await store.close();
  t.deepEqual([...(await loadFrom(directory)).services.values()], [SERVICE]);
  await rm(directory, { recursive: true });
});

/** Runs the writer until it has acknowledged `count` commits, kills it, and answers the last one that it acknowledged. */
async function writeUntilKilled(directory: string, count: number): Promise<number> {
  const child = spawn(process.execPath, [WRITER, directory], { stdio: ["ignore", "pipe", "inherit"] });
  let last = 0;
  let seen = 0;
  const exited = once(child, "exit");
  for await (const line of createInterface({ input: child.stdout })) {
    last = Number(line);
    if (++seen === count) child.kill("SIGKILL");
  }
  await exited;
  return last;
}

test("every acknowledged commit is there after kill -9 under load, time after time", async (t) => {
  const directory = temporaryDirectory("store");
  for (const count of [1, 20, 150, 400, 77]) {
    const acknowledged = await writeUntilKilled(directory, count);
    const state = await loadFrom(directory);
    t.true(
      state.revision === acknowledged || state.revision === acknowledged + 1,
      `${state.revision}, ${acknowledged}`,
    );
    for (let i = 1; i <= acknowledged; i++) t.true(state.networks.has(networkRow(i).id));
  }
  await rm(directory, { recursive: true });
});

const isRoot = process.getuid?.() === 0;
const fullDisk = "a full disk is refused clearly, and nothing is lost";

(isRoot ? test : test.skip)(isRoot ? fullDisk : `${fullDisk} (skipped: needs root)`, async (t) => {
  const directory = temporaryDirectory("store");
  await run("mount", ["-t", "tmpfs", "-o", "size=1m", "overlayd-test", directory]);
  try {
    const store = await openEmbeddedStore(directory);
    let revision = 0;
    const error = await t.throwsAsync(
      async () => {
        for (;;) {
          await store.commit(
            Array.from({ length: 20 }, (_, i) => putNetwork(revision * 20 + i)),
            revision + 1,
          );
          revision++;
        }
      },
      { instanceOf: UserError },
    );
    t.is((error as UserError).code, 507);
    t.regex(error!.message, /disk of .* is full: \d+ bytes are free/);
    t.true(revision > 3);
    t.is((await store.load()).networks.size, revision * 20);
    await writeFile(join(directory, "rest"), Buffer.alloc(2_000_000)).catch(() => undefined);
    await t.throwsAsync(store.commit([putNetwork(0)], revision + 1), { instanceOf: UserError });
    await store.close();
    const state = await loadFrom(directory);
    t.is(state.revision, revision);
    t.is(state.networks.size, revision * 20);
    await rm(join(directory, "rest"));
    const roomy = await openEmbeddedStore(directory);
    await roomy.commit([{ kind: "networks", key: networkRow(0).id, row: null }], revision + 1);
    t.is((await roomy.load()).networks.size, revision * 20 - 1);
    await roomy.close();
  } finally {
    await run("umount", ["--lazy", directory]);
    await rm(directory, { recursive: true });
  }
});

const noRoomToOpen = "a store that a full disk has no room to open ends no process, and is opened when there is room";

(isRoot ? test : test.skip)(isRoot ? noRoomToOpen : `${noRoomToOpen} (skipped: needs root)`, async (t) => {
  const disk = temporaryDirectory("store");
  await run("mount", ["-t", "tmpfs", "-o", "size=1m", "overlayd-test", disk]);
  try {
    const rest = join(disk, "rest");
    const opened = async (directory: string): Promise<string> =>
      (await run(process.execPath, [OPENER, directory])).stdout.trim();
    for (const free of [0, 1, 8]) {
      const directory = join(disk, `new${free}`);
      await writeFile(rest, Buffer.alloc(2 ** 20 - free * PAGE_BYTES)).catch(() => undefined);
      t.is(await opened(directory), "full", `${free} pages are free`);
      await rm(rest);
      t.is(await opened(directory), "rows 0 revision 0");
      await rm(directory, { recursive: true });
    }
    const directory = join(disk, "lockless");
    await opened(directory);
    await rm(join(directory, "state.mdb-lock"));
    await writeFile(rest, Buffer.alloc(2 ** 20)).catch(() => undefined);
    t.is(await opened(directory), "full");
    await truncate(join(directory, "state.mdb-lock"), 8272);
    t.is(await opened(directory), "full", "a lock file that is there, without its pages");
    await rm(rest);
    t.is(await opened(directory), "rows 0 revision 0");
  } finally {
    await run("umount", ["--lazy", disk]);
    await rm(disk, { recursive: true });
  }
});

const takenRoom =
  "a disk that another process fills is refused with the system's reason, and used again when it has room";

(isRoot ? test : test.skip)(isRoot ? takenRoom : `${takenRoom} (skipped: needs root)`, async (t) => {
  const directory = temporaryDirectory("store");
  await run("mount", ["-t", "tmpfs", "-o", "size=80m", "overlayd-test", directory]);
  try {
    const store = await openEmbeddedStore(directory);
    await store.commit([putNetwork(0)], 1); // the room that it found is not asked for again at once
    await writeFile(join(directory, "rest"), Buffer.alloc(90_000_000)).catch(() => undefined);
    const rows = Array.from({ length: 50 }, (_, i) => putNetwork(i));
    const refused = { instanceOf: UserError, code: 507, message: /cannot write: No space left on device/ };
    for (let i = 0; i < 3; i++) await t.throwsAsync(store.commit(rows, 2), refused);
    const left = await store.load();
    t.deepEqual([left.revision, left.networks.size], [1, 1]);
    await rm(join(directory, "rest"));
    await store.commit(rows, 2);
    await store.commit([{ kind: "networks", key: networkRow(0).id, row: null }], 3);
    await store.close();
    const state = await loadFrom(directory);
    t.deepEqual([state.revision, state.networks.size], [3, 49]);
  } finally {
    await run("umount", ["--lazy", directory]);
    await rm(directory, { recursive: true });
  }
});

test("a second process is refused while the first has the store, and not after it was killed", async (t) => {
  const directory = temporaryDirectory("store");
  const store = await openEmbeddedStore(directory);
  const error = await t.throwsAsync(openEmbeddedStore(directory), { instanceOf: PlatformError });
  t.regex(error!.message, /another overlayd uses/);
  await store.close();
  await writeUntilKilled(directory, 3);
  await (await openEmbeddedStore(directory)).close();
  await rm(directory, { recursive: true });
});

test("a file cut short anywhere never ends the process: it is whole or set aside", async (t) => {
  const directory = temporaryDirectory("store");
  const store = await openEmbeddedStore(directory);
  for (let revision = 1; revision <= 40; revision++) {
    await store.commit(
      Array.from({ length: 25 }, (_, i) => putNetwork((revision * 13 + i) % 300)),
      revision,
    );
  }
  const rows = (await store.load()).networks.size;
  await store.close();
  const whole = join(directory, "state.mdb");
  const { size } = await stat(whole);
  const outcomes = new Set<string>();
  for (let pages = 0; pages < size / 4096; pages++) {
    const copy = temporaryDirectory("store");
    await copyFile(whole, join(copy, "state.mdb"));
    await truncate(join(copy, "state.mdb"), pages * 4096 + 100);
    const { stdout } = await run(process.execPath, [OPENER, copy]);
    const outcome = stdout.trim();
    outcomes.add(outcome.split(" ")[0]!);
    if (outcome.startsWith("rows")) t.is(outcome, `rows ${rows} revision 40`);
    else t.deepEqual([outcome, (await readdir(copy)).includes("state.mdb.damaged")], ["damaged damaged", true]);
    await rm(copy, { recursive: true });
  }
  t.true(outcomes.has("damaged"));
  await rm(directory, { recursive: true });
});

test("an empty file is a store that LMDB was about to make", async (t) => {
  const directory = temporaryDirectory("store");
  await writeFile(join(directory, "state.mdb"), "");
  const state = await loadFrom(directory);
  t.deepEqual([state.revision, state.networks.size], [0, 0]);
  await rm(directory, { recursive: true });
});

test("a file that is no store is set aside, and the message says where and what to do", async (t) => {
  const directory = temporaryDirectory("store");
  await writeFile(join(directory, "state.mdb"), "x".repeat(20_000));
  const error = await t.throwsAsync(openEmbeddedStore(directory), { instanceOf: PlatformError });
  t.regex(error!.message, /state\.mdb is damaged and was set aside as .*state\.mdb\.damaged: its header is not/);
  t.regex(error!.message, /put a backup at .*, or remove .* to begin with an empty cluster/);
  await t.throwsAsync(openEmbeddedStore(directory), { message: /was found damaged and set aside/ });
  await rm(join(directory, "state.mdb.damaged"));
  await (await openEmbeddedStore(directory)).close();
  await rm(directory, { recursive: true });
});

test("a store that was given away keeps its rows and never leads again, but for an import", async (t) => {
  const directory = temporaryDirectory("store");
  const store = await openEmbeddedStore(directory);
  await store.campaign();
  await store.commit([putNetwork(1)], 1);
  const moved = { store: "etcd", id: "5f2a", cluster: { id: networkRow(1).id, epoch: 1 } } as const;
  await store.giveAway(moved);
  await t.throwsAsync(store.commit([putNetwork(2)], 2), {
    instanceOf: UserError,
    message: /with the managers' etcd now/,
  });
  await store.close();
  const again = await openEmbeddedStore(directory);
  t.deepEqual(again.moved, moved);
  const error = await t.throwsAsync(again.campaign(), { instanceOf: PlatformError });
  t.regex(error!.message, /with the managers' etcd now .*cluster status.*cluster import/);
  const state = await again.load();
  t.is(state.networks.size, 1);
  await again.fill(state);
  await t.notThrowsAsync(again.campaign());
  await again.close();
  await rm(directory, { recursive: true });
});
