// The snapshot on disk: whole, or set aside.
import { mkdtemp, readdir, readFile, rm, truncate, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import test from "ava";
import type { Change } from "../../src/cluster/schema.ts";
import { emptyState, type LiveState, stateToJson } from "../../src/cluster/state.ts";
import { createLog, silentLog } from "../../src/lib/log.ts";
import { readSnapshot, type Snapshot, SnapshotWriter, writeSnapshot } from "../../src/session/snapshot-file.ts";
import { PUT_OLDER_SERVICE, putNetwork, SERVICE } from "../cluster/rows.ts";

const nodeId = "n".repeat(25);
const stateOf = (change: Change, revision: number): LiveState => {
  const state = emptyState();
  state.apply([change], revision);
  return state;
};
const snapshotOf = (revision: number): Snapshot => ({ nodeId, state: stateOf(putNetwork(revision), revision) });

async function withFile(work: (path: string, directory: string) => Promise<void>): Promise<void> {
  const directory = await mkdtemp(join(tmpdir(), "overlayd-snapshot-"));
  await work(join(directory, "snapshot"), directory);
  await rm(directory, { recursive: true });
}

test("what was written is read, and the next one replaces it whole", (t) =>
  withFile(async (path, directory) => {
    t.is(await readSnapshot(path, silentLog), undefined);
    await writeSnapshot(path, snapshotOf(1));
    await writeSnapshot(path, snapshotOf(2));
    const { nodeId: ownId, state } = (await readSnapshot(path, silentLog))!;
    t.is(ownId, nodeId);
    t.deepEqual(stateToJson(state), stateToJson(snapshotOf(2).state));
    t.deepEqual(await readdir(directory), ["snapshot"]);
  }));

test("a service that was made with the PROXY protocol is read without it", (t) =>
  withFile(async (path) => {
    await writeSnapshot(path, { nodeId, state: stateOf(PUT_OLDER_SERVICE, 1) });
    t.true((await readFile(path, "utf8")).includes("proxyProtocol"));
    t.deepEqual([...(await readSnapshot(path, silentLog))!.state.services.values()], [SERVICE]);
  }));

test("of many snapshots at once the newest is on disk in the end", (t) =>
  withFile(async (path) => {
    const writer = new SnapshotWriter(path, silentLog);
    for (let revision = 1; revision <= 50; revision++) writer.write(snapshotOf(revision));
    await writer.settled();
    t.is((await readSnapshot(path, silentLog))!.state.revision, 50);
  }));

const damages: { what: string; damage: (path: string) => Promise<void>; reason: RegExp }[] = [
  { what: "cut short", damage: (path) => truncate(path, 200), reason: /it has \d+ bytes of \d+/ },
  { what: "emptied", damage: (path) => truncate(path, 0), reason: /does not begin as a snapshot/ },
  {
    what: "changed in one byte",
    damage: async (path) => {
      const bytes = await readFile(path);
      bytes[bytes.length - 20]! ^= 1;
      await writeFile(path, bytes);
    },
    reason: /its checksum is wrong/,
  },
];

for (const { what, damage, reason } of damages) {
  test(`a snapshot that was ${what} is set aside, and the log says so`, (t) =>
    withFile(async (path, directory) => {
      const lines: string[] = [];
      const log = createLog("info", { write: (line: string) => lines.push(line) });
      await writeSnapshot(path, snapshotOf(1));
      await damage(path);
      t.is(await readSnapshot(path, log), undefined);
      t.deepEqual(await readdir(directory), ["snapshot.damaged"]);
      t.regex(lines.join(), /damaged and was set aside/);
      t.regex(lines.join(), reason);
    }));
}
