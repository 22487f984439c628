// The copy of the state on disk: whole up to a line that is damaged, or set aside.
import { appendFile, readdir, readFile, rm, truncate, writeFile } from "node:fs/promises";
import { join } from "node:path";
import test from "ava";
import type { Change } from "../../src/cluster/schema.ts";
import { emptyState, type LiveState, stateToJson } from "../../src/cluster/state.ts";
import { createLog, silentLog } from "../../src/lib/log.ts";
import { encodeChanges, LineEncoder, readSnapshot } from "../../src/session/snapshot-file.ts";
import { networkRow, PUT_OLDER_SERVICE, putNetwork, SERVICE } from "../cluster/rows.ts";
import { putEarlierSnapshot, putSnapshot } from "../fakes/snapshot-on-disk.ts";
import { temporaryDirectory } from "../temporary.ts";

const nodeId = "n".repeat(25);
const stateOf = (changes: Change[], revision: number): LiveState => {
  const state = emptyState();
  state.cluster = { id: "c".repeat(25), epoch: 1 };
  state.apply(changes, revision);
  return state;
};

async function withFile(work: (path: string, directory: string) => Promise<void>): Promise<void> {
  const directory = temporaryDirectory("snapshot");
  await work(join(directory, "snapshot"), directory);
  await rm(directory, { recursive: true });
}

function recordingLog() {
  const lines: string[] = [];
  return { lines, log: createLog("info", { write: (line: string) => lines.push(line) }) };
}

test("what was written is read, and the next one replaces it whole", (t) =>
  withFile(async (path, directory) => {
    t.is(await readSnapshot(path, silentLog), undefined);
    await putSnapshot(path, nodeId, stateOf([putNetwork(1)], 1));
    const second = stateOf(
      Array.from({ length: 1000 }, (_, i) => putNetwork(i)),
      2,
    );
    await putSnapshot(path, nodeId, second);
    const { nodeId: ownId, state, end } = (await readSnapshot(path, silentLog))!;
    t.is(ownId, nodeId);
    t.deepEqual(stateToJson(state), stateToJson(second));
    t.deepEqual(end, { bytes: (await readFile(path)).length, headBytes: end!.bytes, checksum: end!.checksum });
    t.deepEqual(await readdir(directory), ["snapshot"]);
  }));

test("a service that was made with the PROXY protocol is read without it", (t) =>
  withFile(async (path) => {
    await putSnapshot(path, nodeId, stateOf([PUT_OLDER_SERVICE], 1), "of the version before");
    t.true((await readFile(path, "utf8")).includes("proxyProtocol"));
    const { state, end } = (await readSnapshot(path, silentLog))!;
    t.deepEqual([...state.services.values()], [SERVICE]);
    t.is(end, undefined, "rows of today's form go into a file of their own");
  }));

test("a file of the format before is read, and nothing can be added to it", (t) =>
  withFile(async (path) => {
    const state = stateOf([putNetwork(1), putNetwork(2)], 7);
    await putEarlierSnapshot(path, nodeId, state);
    const read = (await readSnapshot(path, silentLog))!;
    t.deepEqual(stateToJson(read.state), stateToJson(state));
    t.deepEqual([read.nodeId, read.end], [nodeId, undefined]);
  }));

test("cut off at any byte it is the state at the last whole line, or is set aside where its snapshot is not whole", (t) =>
  withFile(async (path, directory) => {
    await putSnapshot(path, nodeId, stateOf([putNetwork(1), putNetwork(2)], 3));
    const end = (await readSnapshot(path, silentLog))!.end!;
    const encoder = new LineEncoder(end.checksum);
    const removed: Change = { kind: "networks", key: networkRow(1).id, row: null };
    const tail = [
      encodeChanges({ after: 3, revision: 4 }, [putNetwork(3)], encoder),
      encodeChanges({ after: 4, revision: 9 }, [removed], encoder),
      encodeChanges({ after: 9, revision: 10 }, [putNetwork(4), putNetwork(5)], encoder),
    ];
    const whole = Buffer.concat([await readFile(path), ...tail]);
    const ends = tail.map((_, i) => end.bytes + Buffer.concat(tail.slice(0, i + 1)).length);
    for (let bytes = 0; bytes <= whole.length; bytes++) {
      await writeFile(path, whole.subarray(0, bytes));
      const { lines, log } = recordingLog();
      const read = await readSnapshot(path, log);
      if (bytes < end.bytes) {
        t.is(read, undefined, `after byte ${bytes}`);
        t.deepEqual(await readdir(directory), ["snapshot.damaged"]);
        t.regex(lines.join(), /damaged and was set aside/);
        continue;
      }
      const lineCount = ends.filter((at) => at <= bytes).length;
      t.is(read!.state.revision, [3, 4, 9, 10][lineCount]!, `after byte ${bytes}`);
      t.is(read!.state.networks.size, [2, 3, 2, 4][lineCount]!);
      t.is(read!.end!.bytes, [end.bytes, ...ends][lineCount]!);
      t.is(lines.length, Number(!ends.includes(bytes) && bytes !== end.bytes));
      if (lines.length > 0) t.regex(lines[0]!, /last bytes of the snapshot cannot be used and are cut off/);
    }
  }));

const badTails: { what: string; tail: (encoder: LineEncoder) => (string | Buffer)[]; reason: RegExp }[] = [
  { what: "zeros", tail: () => [Buffer.alloc(300)], reason: /its last line is not whole/ },
  { what: "a line of something else", tail: () => ["x y z\n"], reason: /the checksum of a line is wrong/ },
  {
    what: "a line twice",
    tail: (encoder) => {
      const line = encodeChanges({ after: 1, revision: 2 }, [putNetwork(2)], encoder);
      return [line, line];
    },
    reason: /the checksum of a line is wrong/,
  },
  {
    what: "a gap between revisions",
    tail: (encoder) => [encodeChanges({ after: 2, revision: 3 }, [putNetwork(2)], encoder)],
    reason: /do not follow on revision 1/,
  },
  {
    what: "a row deleted that is not there",
    tail: (encoder) => [encodeChanges({ after: 1, revision: 2 }, [{ ...putNetwork(9), row: null }], encoder)],
    reason: /deletes a row of networks that is not here/,
  },
];
for (const { what, tail, reason } of badTails) {
  test(`after its snapshot there is ${what}: what was right before it counts`, (t) =>
    withFile(async (path) => {
      await putSnapshot(path, nodeId, stateOf([putNetwork(1)], 1));
      const { end } = (await readSnapshot(path, silentLog))!;
      for (const piece of tail(new LineEncoder(end!.checksum))) await appendFile(path, piece);
      const { lines, log } = recordingLog();
      const { state } = (await readSnapshot(path, log))!;
      t.true(state.networks.has(networkRow(1).id));
      t.regex(lines.join(), reason);
    }));
}

const damages: { what: string; damage: (path: string) => Promise<void>; reason: RegExp }[] = [
  { what: "cut short", damage: (path) => truncate(path, 200), reason: /its last line is not whole/ },
  {
    what: "cut short after a line",
    damage: async (path) => {
      const text = await readFile(path, "utf8");
      await writeFile(path, text.slice(0, text.lastIndexOf("\n", text.length - 2) + 1));
    },
    reason: /it ends before its snapshot does/,
  },
  { what: "emptied", damage: (path) => truncate(path, 0), reason: /does not begin as a snapshot/ },
  {
    what: "changed in one byte",
    damage: async (path) => {
      const bytes = await readFile(path);
      bytes[bytes.length - 20]! ^= 1;
      await writeFile(path, bytes);
    },
    reason: /the checksum of a line is wrong/,
  },
];

for (const { what, damage, reason } of damages) {
  test(`a snapshot that was ${what} is set aside, and the log says so`, (t) =>
    withFile(async (path, directory) => {
      const { lines, log } = recordingLog();
      await putSnapshot(path, nodeId, stateOf([putNetwork(1)], 1));
      await damage(path);
      t.is(await readSnapshot(path, log), undefined);
      t.deepEqual(await readdir(directory), ["snapshot.damaged"]);
      t.regex(lines.join(), /damaged and was set aside/);
      t.regex(lines.join(), reason);
    }));
}

for (const { what, damage, reason } of [
  { what: "cut short", damage: (path: string) => truncate(path, 200), reason: /it has \d+ bytes of \d+/ },
  {
    what: "changed in one byte",
    damage: async (path: string) => {
      const bytes = await readFile(path);
      bytes[bytes.length - 20]! ^= 1;
      await writeFile(path, bytes);
    },
    reason: /its checksum is wrong/,
  },
]) {
  test(`a snapshot of the format before that was ${what} is set aside`, (t) =>
    withFile(async (path, directory) => {
      const { lines, log } = recordingLog();
      await putEarlierSnapshot(path, nodeId, stateOf([putNetwork(1)], 1));
      await damage(path);
      t.is(await readSnapshot(path, log), undefined);
      t.deepEqual(await readdir(directory), ["snapshot.damaged"]);
      t.regex(lines.join(), reason);
    }));
}
