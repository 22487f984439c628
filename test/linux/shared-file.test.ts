// A mapped file outlives who wrote it, and a broken one is found before it is mapped.
import { execFileSync } from "node:child_process";
import {
  chmodSync,
  chownSync,
  linkSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import test from "ava";
import { createLog, type Log, silentLog } from "../../src/lib/log.ts";
import { bringOver, openSharedFile } from "../../src/linux/shared-file.ts";
import { VirtualClock } from "../fakes/virtual-clock.ts";
import { temporaryDirectory } from "../temporary.ts";

const BYTES = 8192;

function temporary(t: { teardown(call: () => void): void }): string {
  const directory = temporaryDirectory("shared");
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
    writeFileSync(path, Buffer.alloc(BYTES, "x"), { mode: 0o600 });
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
    writeFileSync(path, "cut short", { mode: 0o600 });
    openSharedFile(path, BYTES, { clock: new VirtualClock(time) }).close();
  }
  t.deepEqual(readdirSync(directory).sort(), ["flows", "flows.damaged-2000"]);
});

test("a file with a hole is filled before it is mapped", (t) => {
  const path = join(temporary(t), "flows");
  writeFileSync(path, "", { mode: 0o600 });
  truncateSync(path, BYTES);
  const file = openSharedFile(path, BYTES);
  t.false(file.fresh);
  t.true(statSync(path).blocks * 512 >= BYTES);
  file.close();
});

const NOBODY = 65534;
const whole = { mode: 0o600 };
/** What another user may have put in the file's place. `elsewhere` is a file that must not be touched. */
const foreign: [title: string, put: (path: string, elsewhere: string) => void, reason: RegExp][] = [
  ["a symbolic link", (path, elsewhere) => symlinkSync(elsewhere, path), /symbolic link/],
  ["another name of a file", (path, elsewhere) => linkSync(elsewhere, path), /it has 2 names/],
  ["a file that others may write", (path) => writeMode(path, 0o666), /its mode is 666/],
  ["a file that others may read", (path) => writeMode(path, 0o640), /its mode is 640/],
  ["a pipe", (path) => void execFileSync("mkfifo", [path]), /no regular file/],
  ["a directory", (path) => mkdirSync(path), /no regular file/],
];
if (process.geteuid!() === 0)
  foreign.push(["another user's file", (path) => chownSync(writeMode(path, 0o600), NOBODY, NOBODY), /to user 65534/]);

function writeMode(path: string, mode: number): string {
  writeFileSync(path, Buffer.alloc(BYTES, "x"));
  chmodSync(path, mode);
  return path;
}

function logInto(lines: string[]): Log {
  return createLog("warn", { write: (line) => lines.push(line) });
}

for (const [title, put, reason] of foreign) {
  test(`${title} is not mapped: it is removed, which the log says, and the file made anew`, (t) => {
    const directory = temporary(t);
    const elsewhere = join(directory, "elsewhere");
    writeFileSync(elsewhere, Buffer.alloc(BYTES, "e"), whole);
    const path = join(directory, "flows");
    put(path, elsewhere);
    const lines: string[] = [];
    const file = openSharedFile(path, BYTES, { log: logInto(lines) });
    t.true(file.fresh);
    new Uint8Array(file.buffer).fill(1);
    file.close();
    t.true(readFileSync(elsewhere).equals(Buffer.alloc(BYTES, "e")));
    t.like(lstatSync(path), { size: BYTES, uid: process.geteuid!(), nlink: 1, mode: 0o100600 });
    t.regex(lines.join(""), reason);
  });
}

test("what a killed agent left unfinished goes, and a link of that name is not followed", (t) => {
  const directory = temporary(t);
  const path = join(directory, "flows");
  writeFileSync(join(directory, "elsewhere"), "kept");
  symlinkSync(join(directory, "elsewhere"), `${path}.new`);
  writeFileSync(`${path}.new-1`, "unfinished");
  openSharedFile(path, BYTES).close();
  t.deepEqual(readdirSync(directory).sort(), ["elsewhere", "flows"]);
  t.is(readFileSync(join(directory, "elsewhere"), "utf8"), "kept");
});

test("a file is brought over from where it was, with what is in it, and nothing is left there", (t) => {
  const [before, after] = [temporary(t), temporary(t)];
  const [from, to] = [join(before, "flows"), join(after, "flows")];
  writeFileSync(from, Buffer.alloc(BYTES, "x"), whole);
  writeFileSync(`${from}.damaged-7`, "");
  bringOver(from, to, silentLog);
  t.true(readFileSync(to).equals(Buffer.alloc(BYTES, "x")));
  t.is(statSync(to).mode, 0o100600);
  t.deepEqual(readdirSync(before), []);
  bringOver(from, to, silentLog);
  writeFileSync(from, "older", whole);
  bringOver(from, to, silentLog);
  t.is(statSync(to).size, BYTES);
  t.deepEqual([readdirSync(before), readdirSync(after)], [[], ["flows"]]);
});

for (const [title, put] of foreign) {
  test(`${title} is not brought over, and keeps no agent from starting`, (t) => {
    const directory = temporary(t);
    const [from, elsewhere] = [join(directory, "flows"), join(directory, "elsewhere")];
    writeFileSync(elsewhere, "kept", whole);
    put(from, elsewhere);
    bringOver(from, join(directory, "new"), silentLog);
    const left = readdirSync(directory).filter((name) => !name.startsWith("flows.foreign-"));
    t.deepEqual(left, ["elsewhere"]);
    t.is(readFileSync(elsewhere, "utf8"), "kept");
  });
}

test("a directory that is missing is named", (t) => {
  const path = join(temporary(t), "absent", "flows");
  t.throws(() => openSharedFile(path, BYTES), { message: /absent\/flows/ });
});
