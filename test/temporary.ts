// What tests that were killed left of their etcds. A directory is named after the process whose it is, so another one can tell
// that its owner is gone, ends the etcds that have their data in it, and deletes it.
import { mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { isAlive, processIdOf } from "../../src/runtime/process-id.ts";

const PREFIX = "overlayd-etcd-";
const NAME = new RegExp(`^${PREFIX}(\\d+)\\.(\\d+)-`);

/** Makes a directory of this process below `on`, and removes those of processes that are gone. */
export async function ownDirectory(on: string): Promise<string> {
  await removeLeftovers(on);
  const { pid, startTime } = (await processIdOf(process.pid))!;
  return mkdtemp(join(on, `${PREFIX}${pid}.${startTime}-`));
}

async function removeLeftovers(on: string): Promise<void> {
  for (const name of await readdir(on)) {
    const [, pid, startTime] = NAME.exec(name) ?? [];
    if (pid === undefined || isAlive({ pid: Number(pid), startTime: startTime! })) continue;
    const directory = join(on, name);
    await endProcesses(`${directory}/`);
    await rm(directory, { recursive: true, force: true });
  }
}

/** Kills those that have a path below the directory in their command line, and waits until they are gone. */
async function endProcesses(below: string): Promise<void> {
  for (;;) {
    const found = await processesOf(below);
    if (found.length === 0) return;
    for (const pid of found) {
      try {
        process.kill(pid, "SIGKILL");
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== "ESRCH") throw error;
      }
    }
    await delay(10);
  }
}

async function processesOf(below: string): Promise<number[]> {
  const pids = (await readdir("/proc")).filter((name) => /^\d+$/.test(name));
  const found = await Promise.all(
    pids.map(async (pid) => {
      const command = await readFile(`/proc/${pid}/cmdline`, "utf8").catch(() => ""); // it has ended
      const [program = "", ...words] = command.split("\0");
      return program.endsWith("etcd") && words.some((word) => word.startsWith(below)) ? [Number(pid)] : [];
    }),
  );
  return found.flat();
}
