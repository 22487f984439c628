// Begins a process below a shim, with its output in the log of its directory.
import { type ChildProcess, spawn } from "node:child_process";
import { open } from "node:fs/promises";
import { type Clock, delay } from "../lib/clock.ts";
import { messageOf, PlatformError } from "../lib/errors.ts";
import type { ProcessId } from "./process-id.ts";
import { RejectedError } from "./runtime.ts";
import type { TaskDirectory } from "./task-directory.ts";

const LOOK_MS = 5;
const START_DEADLINE_MS = 10_000;

interface Begun {
  id: ProcessId & { startedAt: number };
  /** The log's size when it began. */
  logFrom: number;
}

interface BeginOptions {
  directory: TaskDirectory;
  /** What ends in the command of shim.ts. */
  argv: readonly string[];
  env: Record<string, string>;
  cwd: string;
  clock: Clock;
}

/** Resolves when the process is there. Throws RejectedError when the shim ended before that. */
export async function beginProcess({ directory, argv, env, cwd, clock }: BeginOptions): Promise<Begun> {
  const [file, ...args] = argv;
  const logFrom = await directory.begin();
  const log = await open(directory.log, "a", 0o600);
  try {
    const child = spawn(file!, args, { cwd, detached: true, stdio: ["ignore", log.fd, log.fd], env });
    await begun(child, directory, logFrom, clock);
  } finally {
    await log.close();
  }
  return { id: (await directory.processId())!, logFrom };
}

async function begun(child: ChildProcess, directory: TaskDirectory, logFrom: number, clock: Clock): Promise<void> {
  let ended: string | undefined;
  child.on("error", (error) => {
    ended = messageOf(error);
  });
  child.on("exit", (code) => {
    ended ??= `exit status ${code}`;
  });
  child.unref();
  const deadline = clock.monotonic() + START_DEADLINE_MS;
  for (;;) {
    const over: string | undefined = ended;
    if ((await directory.processId()) !== undefined) return;
    if (over !== undefined) {
      const { error } = await directory.exitOf(child.exitCode ?? 1, logFrom);
      throw new RejectedError(`it could not be started: ${error ?? over}`);
    }
    if (clock.monotonic() > deadline) {
      throw new PlatformError("the task's process does not begin", `see ${directory.log}`);
    }
    await delay(clock, LOOK_MS);
  }
}
