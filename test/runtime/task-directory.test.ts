// A task's files: whose process it is, how it ended, and what it said last.
import { appendFile, readFile, rm, stat, truncate, writeFile } from "node:fs/promises";
import { join } from "node:path";
import test from "ava";
import { findExecutable } from "../../src/runtime/process.ts";
import { isAlive, parseStat } from "../../src/runtime/process-id.ts";
import { TaskDirectory } from "../../src/runtime/task-directory.ts";
import { temporaryDirectory } from "../temporary.ts";

async function withDirectory(use: (directory: TaskDirectory) => Promise<void>): Promise<void> {
  const path = temporaryDirectory("test");
  try {
    await use(new TaskDirectory(path));
  } finally {
    await rm(path, { recursive: true });
  }
}

const REST = "S 1 42 42 0 -1 4194304 1 2 3 4 5 6 7 8 20 0 1 0 123456 789";
const STATS: [title: string, line: string, expected: ReturnType<typeof parseStat>][] = [
  ["a plain name", `42 (sh) ${REST}`, { pid: 42, startTime: "123456" }],
  ["a name with spaces and parentheses", `42 (a) b (c) ${REST}`, { pid: 42, startTime: "123456" }],
  ["nothing", "", undefined],
  ["a line cut short", "42 (sh) S 1 2", undefined],
];
for (const [title, line, expected] of STATS) {
  test(`/proc/PID/stat with ${title}`, (t) => t.deepEqual(parseStat(line), expected));
}

test("a process with the number of another is not taken for it", async (t) => {
  await withDirectory(async (directory) => {
    await writeFile(join(directory.path, "pid"), await readFile("/proc/self/stat"));
    const self = (await directory.processId())!;
    t.is(self.pid, process.pid);
    t.true(isAlive(self));
    t.false(isAlive({ ...self, startTime: "1" }));
  });
});

const ENDS: [title: string, exitCode: number | undefined, log: string, error: string | null][] = [
  ["well", 0, "done\n", null],
  ["with a status", 3, "", "exit status 3"],
  ["with a status and last words", 1, "starting\n\nno such host\n", "exit status 1: starting | no such host"],
  ["by a signal", 137, "", "killed by SIGKILL"],
  ["unseen", undefined, "", "it ended, and its exit status is not known"],
];
for (const [title, exitCode, log, error] of ENDS) {
  test(`a task that ended ${title}`, async (t) => {
    await withDirectory(async (directory) => {
      await writeFile(directory.log, log);
      t.deepEqual(await directory.exitOf(exitCode, 0), { exitCode: exitCode ?? null, error });
    });
  });
}

test("last words are of this run, and not too many", async (t) => {
  await withDirectory(async (directory) => {
    await writeFile(directory.log, "the run before\n");
    const from = await directory.begin();
    await appendFile(directory.log, "this run\n");
    t.is((await directory.exitOf(1, from)).error, "exit status 1: this run");
    await appendFile(directory.log, "x".repeat(100_000));
    t.is((await directory.exitOf(1, from)).error?.length, 500);
  });
});

test("a log is cut when it has grown large, and what was in it is kept once", async (t) => {
  await withDirectory(async (directory) => {
    await writeFile(directory.log, "");
    await truncate(directory.log, 16 << 20);
    await directory.limitLog();
    t.is((await stat(directory.log)).size, 16 << 20);
    await appendFile(directory.log, "one more");
    await directory.limitLog();
    t.is((await stat(directory.log)).size, 0);
    t.is((await stat(`${directory.log}.1`)).size, (16 << 20) + 8);
  });
});

const FILES: [file: string, directory: string, found: boolean][] = [
  ["sh", "/", true],
  ["/bin/sh", "/", true],
  ["bin/sh", "/", true],
  ["./sh", "/bin", true],
  ["overlayd-no-such-file", "/", false],
  ["/etc/passwd", "/", false],
  ["/bin", "/", false],
];
for (const [file, directory, found] of FILES) {
  test(`'${file}' in ${directory} is ${found ? "" : "not "}found`, async (t) => {
    t.is((await findExecutable(file, "/usr/bin:/bin", directory)) !== undefined, found);
  });
}
