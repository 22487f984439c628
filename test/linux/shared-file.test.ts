// A mapped file outlives who wrote it, and a broken one is found before it is mapped.
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import test from "ava";
import { createLog } from "../../src/lib/log.ts";
import { openSharedFile } from "../../src/linux/shared-file.ts";
import { VirtualClock } from "../fakes/virtual-clock.ts";

const BYTES = 8192;

function temporary(t: { teardown(call: () => void): void }): string {
  const directory = mkdtempSync(join(tmpdir(), "overlayd-shared-"));
  t.teardown(() => rmSync(directory, { recursive: true }));
  return directory;
}

test("what is written is there when the file is opened again", (t) => {
  const path = join(temporary(t), "flows");
  const first = openSharedFile(path, BYTES);
  t.true(first.fresh);
  t.is(first.buffer.byteLength, BYTES);
  t.true(new Uint8Array(first.buffer).every((byte) => byte === 0));
  new Int32Array(first.buffer)[BYTES / 4 - 1] = 12345;
  first.close();
  const second = openSharedFile(path, BYTES);
  t.false(second.fresh);
  t.is(new Int32Array(second.buffer)[BYTES / 4 - 1], 12345);
  second.close();
});

test("two mappings of one file are the same memory", (t) => {
  const path = join(temporary(t), "flows");
  const first = openSharedFile(path, BYTES);
  const second = openSharedFile(path, BYTES);
  new Uint8Array(first.buffer)[7] = 9;
  t.is(new Uint8Array(second.buffer)[7], 9);
  first.close();
  second.close();
});

for (const [title, size] of [
  ["cut short", 4096],
  ["empty", 0],
  ["too long", BYTES + 1],
] as const) {
  test(`a file that is ${title} is set aside, and a new one made`, (t) => {
    const directory = temporary(t);
    const path = join(directory, "flows");
    writeFileSync(path, Buffer.alloc(BYTES, "x"));
    truncateSync(path, size);
    const lines: string[] = [];
    const log = createLog("warn", { write: (line) => lines.push(line) });
    const file = openSharedFile(path, BYTES, { log, clock: new VirtualClock(1000) });
    t.true(file.fresh);
    t.true(new Uint8Array(file.buffer).every((byte) => byte === 0));
    t.deepEqual(readdirSync(directory).sort(), ["flows", "flows.damaged-1000"]);
    t.is(readFileSync(join(directory, "flows.damaged-1000")).length, size);
    t.regex(lines.join(""), new RegExp(`${size} bytes instead of ${BYTES}`));
    file.close();
  });
}

test("of the files set aside only the last is kept", (t) => {
  const directory = temporary(t);
  const path = join(directory, "flows");
  for (const time of [1000, 2000]) {
    writeFileSync(path, "cut short");
    openSharedFile(path, BYTES, { clock: new VirtualClock(time) }).close();
  }
  t.deepEqual(readdirSync(directory).sort(), ["flows", "flows.damaged-2000"]);
});

test("a file with a hole is filled before it is mapped", (t) => {
  const path = join(temporary(t), "flows");
  writeFileSync(path, "");
  truncateSync(path, BYTES);
  const file = openSharedFile(path, BYTES);
  t.false(file.fresh);
  t.true(statSync(path).blocks * 512 >= BYTES);
  file.close();
});

test("a directory that is missing is named", (t) => {
  const path = join(temporary(t), "absent", "flows");
  t.throws(() => openSharedFile(path, BYTES), { message: /absent\/flows/ });
});
