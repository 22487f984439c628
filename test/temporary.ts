// Directories of tests. Each is named after the process whose it is, which removes it at its end; what a process that was killed
// left is removed by the next one that makes a directory beside it, and etcds that have their data there are ended.
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { isAlive, parseStat } from "../src/runtime/process-id.ts";

const NAME = /^overlayd-[a-z-]+-(\d+)\.(\d+)-/;
const PAUSE_MS = 10;

const self = parseStat(readFileSync("/proc/self/stat", "latin1"))!;
const own: string[] = [];
process.once("exit", () => {
  for (const directory of own) rmSync(directory, { recursive: true, force: true });
});

/** Makes a directory below `on`; `word` says what it is for, in a-z and '-'. */
export function temporaryDirectory(word: string, on = tmpdir()): string {
  removeLeftovers(on);
  const directory = mkdtempSync(join(on, `overlayd-${word}-${self.pid}.${self.startTime}-`));
  own.push(directory);
  return directory;
}

function removeLeftovers(on: string): void {
  for (const name of readdirSync(on)) {
    const [, pid, startTime] = NAME.exec(name) ?? [];
    if (pid === undefined || isAlive({ pid: Number(pid), startTime: startTime! })) continue;
    const directory = join(on, name);
    endEtcds(`${directory}/`);
    try {
      rmSync(directory, { recursive: true, force: true });
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "ENOTEMPTY") throw error; // another process removes it too
    }
  }
}

/** Kills those that have a path below the directory in their command line, and waits until they are gone. */
function endEtcds(below: string): void {
  for (let found = etcdsIn(below); found.length > 0; found = etcdsIn(below)) {
    for (const pid of found) {
      try {
        process.kill(pid, "SIGKILL");
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== "ESRCH") throw error;
      }
    }
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, PAUSE_MS);
  }
}

function etcdsIn(below: string): number[] {
  return readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .map(Number)
    .filter((pid) => {
      const [program = "", ...words] = commandOf(pid);
      return program.endsWith("etcd") && words.some((word) => word.startsWith(below));
    });
}

function commandOf(pid: number): string[] {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, "utf8").split("\0");
  } catch {
    return []; // it has ended
  }
}
