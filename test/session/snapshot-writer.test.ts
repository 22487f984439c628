// When the copy of the state on disk is written, and how much of it: what changed, and not the state.
import { appendFile, mkdir, readFile, rm, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import test from "ava";
import type { Change } from "../../src/cluster/schema.ts";
import { LiveState, stateToJson } from "../../src/cluster/state.ts";
import { createLog, silentLog } from "../../src/lib/log.ts";
import { readSnapshot } from "../../src/session/snapshot-file.ts";
import { SnapshotWriter } from "../../src/session/snapshot-writer.ts";
import { networkRow, putNetwork } from "../cluster/rows.ts";
import { putEarlierSnapshot } from "../fakes/snapshot-on-disk.ts";
import { VirtualClock } from "../fakes/virtual-clock.ts";
import { waitFor } from "../system/command.ts";
import { temporaryDirectory } from "../temporary.ts";

const nodeId = "n".repeat(25);

/** A node's state, its file, and the writer between them. */
class Disk {
  readonly clock = new VirtualClock();
  readonly state = new LiveState();
  readonly logged: string[] = [];
  readonly path: string;
  readonly #directory: string;
  writer: SnapshotWriter;

  private constructor(directory: string) {
    this.#directory = directory;
    this.path = join(directory, "data", "snapshot");
    this.state.cluster = { id: "c".repeat(25), epoch: 1 };
    this.writer = this.#newWriter();
  }

  static async with(work: (disk: Disk) => Promise<void>): Promise<void> {
    const directory = temporaryDirectory("snapshot");
    await mkdir(join(directory, "data"));
    await work(new Disk(directory));
    await rm(directory, { recursive: true });
  }

  change(changes: Change[], revision = this.state.revision + 1, node = nodeId): void {
    this.writer.changed(node, this.state.apply(changes, revision));
  }

  /** The revision on disk; undefined: there is no file. */
  async revision(): Promise<number | undefined> {
    return (await readSnapshot(this.path, silentLog))?.state.revision;
  }

  /** Lets time pass until the file has the revision. */
  async until(revision: number): Promise<void> {
    await waitFor(async () => (await this.revision()) === revision, { what: `revision ${revision} on disk` });
  }

  async size(): Promise<number> {
    return (await stat(this.path)).size;
  }

  /** As an agent does that starts. */
  async restart(): Promise<void> {
    await this.writer.stop();
    this.writer = this.#newWriter();
    this.writer.continue((await readSnapshot(this.path, silentLog))!);
  }

  async block(isBlocked: boolean): Promise<void> {
    const data = join(this.#directory, "data");
    await rm(data, { recursive: true });
    if (isBlocked) await writeFile(data, "no directory");
    else await mkdir(data);
  }

  #newWriter(): SnapshotWriter {
    const { path, clock, state, logged } = this;
    const log = createLog("info", { write: (line: string) => logged.push(line) });
    return new SnapshotWriter({ path, clock, log, state });
  }
}

test("the first state is written at once, changes at most every five seconds, and the last ones at the stop", (t) =>
  Disk.with(async (disk) => {
    disk.change([putNetwork(1)]);
    await disk.clock.advance(0);
    await disk.until(1);
    for (let i = 2; i <= 50; i++) {
      disk.change([putNetwork(i)]);
      await disk.clock.advance(90);
    }
    t.is(await disk.revision(), 1);
    await disk.clock.advance(1000);
    await disk.until(50);
    disk.change([putNetwork(51)]);
    t.is(await disk.revision(), 50);
    await disk.writer.stop();
    t.is(await disk.revision(), 51);
    t.deepEqual(stateToJson((await readSnapshot(disk.path, silentLog))!.state), stateToJson(disk.state));
  }));

test("what is written is in proportion to what changed, also after a restart", (t) =>
  Disk.with(async (disk) => {
    disk.change(Array.from({ length: 2000 }, (_, i) => putNetwork(i)));
    await disk.writer.stop();
    const head = await disk.size();
    for (let i = 0; i < 20; i++) {
      await disk.restart();
      disk.change([putNetwork(i), putNetwork(3000 + i)]);
    }
    await disk.writer.stop();
    t.true((await disk.size()) - head < 20 * 1000);
    t.deepEqual(stateToJson((await readSnapshot(disk.path, silentLog))!.state), stateToJson(disk.state));
  }));

test("a row that changes often is written once, and one that came and went is no trouble", (t) =>
  Disk.with(async (disk) => {
    disk.change([putNetwork(1)]);
    await disk.writer.stop();
    const head = await disk.size();
    await disk.restart();
    for (let i = 0; i < 500; i++) disk.change([putNetwork(2)]);
    disk.change([putNetwork(3)]);
    disk.change([{ kind: "networks", key: networkRow(3).id, row: null }]);
    await disk.writer.stop();
    t.true((await disk.size()) - head < 1000);
    const { state } = (await readSnapshot(disk.path, silentLog))!;
    t.deepEqual(stateToJson(state), stateToJson(disk.state));
  }));

test("when what was added outgrows the snapshot, the file is written anew and is small again", (t) =>
  Disk.with(async (disk) => {
    disk.change([putNetwork(1)]);
    await disk.writer.stop();
    const head = await disk.size();
    let largest = 0;
    for (let i = 0; i < 100; i++) {
      await disk.restart();
      disk.change(Array.from({ length: 20 }, (_, k) => putNetwork(k)));
      await disk.writer.stop();
      largest = Math.max(largest, await disk.size());
    }
    t.true(largest < 64 * 1024 + 20 * head, `${largest} bytes`);
    t.is(await disk.revision(), 101);
  }));

test("a revision without changes is written, and a session that brings nothing new is not", (t) =>
  Disk.with(async (disk) => {
    disk.change([putNetwork(1)]);
    await disk.restart();
    const before = await readFile(disk.path);
    disk.change([], 1);
    await disk.writer.stop();
    t.deepEqual(await readFile(disk.path), before);
    disk.change([], 8);
    await disk.writer.stop();
    t.is(await disk.revision(), 8);
  }));

test("another node id or another epoch is a file of its own", (t) =>
  Disk.with(async (disk) => {
    disk.change([putNetwork(1)]);
    await disk.restart();
    const other = "m".repeat(25);
    disk.change([], 1, other);
    await disk.writer.stop();
    t.is((await readSnapshot(disk.path, silentLog))!.nodeId, other);
    disk.state.cluster = { id: "c".repeat(25), epoch: 2 };
    disk.change([], 1, other);
    await disk.writer.stop();
    t.is((await readSnapshot(disk.path, silentLog))!.state.cluster?.epoch, 2);
  }));

test("a file of the format before is written anew with the first change", (t) =>
  Disk.with(async (disk) => {
    disk.state.apply([putNetwork(1)], 4);
    await putEarlierSnapshot(disk.path, nodeId, disk.state);
    await disk.restart();
    disk.change([putNetwork(2)]);
    await disk.writer.stop();
    t.true((await readFile(disk.path, "utf8")).startsWith("overlayd-snapshot-2\n"));
    t.deepEqual(stateToJson((await readSnapshot(disk.path, silentLog))!.state), stateToJson(disk.state));
  }));

test("what a write that broke off has left is cut off by the next one", (t) =>
  Disk.with(async (disk) => {
    disk.change([putNetwork(1)]);
    await disk.writer.stop();
    await appendFile(disk.path, `0123abcd {"type":"changes","after":1,"revis${"x".repeat(500)}`);
    await disk.restart();
    disk.change([putNetwork(2)]);
    await disk.writer.stop();
    const read = (await readSnapshot(disk.path, silentLog))!;
    t.is(read.state.revision, 2);
    t.is(read.end!.bytes, await disk.size());
  }));

test("while the disk takes nothing it is tried less and less often, and then has all", (t) =>
  Disk.with(async (disk) => {
    disk.change([putNetwork(1)]);
    await disk.clock.advance(0);
    await disk.until(1);
    await disk.block(true);
    const attempts = () => disk.logged.filter((line) => line.includes("cannot be written")).length;
    let revision = 1;
    for (const [i, waitMs] of [5000, 5000, 10_000, 20_000].entries()) {
      disk.change([putNetwork(++revision)]);
      await disk.clock.advance(waitMs - 1);
      disk.change([putNetwork(++revision)]);
      t.is(attempts(), i);
      await disk.clock.advance(1);
      await waitFor(() => attempts() === i + 1, { what: `attempt ${i + 1}` });
    }
    await disk.block(false);
    await disk.clock.advance(40_000);
    await disk.until(revision);
    t.deepEqual(stateToJson((await readSnapshot(disk.path, silentLog))!.state), stateToJson(disk.state));
    await disk.writer.stop();
  }));

test("changes that come while the whole file is written are added after it", (t) =>
  Disk.with(async (disk) => {
    disk.change(Array.from({ length: 5000 }, (_, i) => putNetwork(i)));
    void disk.clock.advance(0);
    const stopping = disk.writer.stop();
    for (let i = 0; i < 20; i++) {
      disk.change([putNetwork(i), { kind: "networks", key: networkRow(4000 + i).id, row: null }]);
      await new Promise(setImmediate);
    }
    await stopping;
    await disk.writer.stop();
    t.deepEqual(stateToJson((await readSnapshot(disk.path, silentLog))!.state), stateToJson(disk.state));
  }));
