// Runs a task as a process of this machine, in a network namespace of its own.
import { constants } from "node:fs";
import { access, rm, stat } from "node:fs/promises";
import { isAbsolute, join, resolve } from "node:path";
import type { Readable } from "node:stream";
import type { LogQuery } from "../cluster/protocol.ts";
import type { ProcessWorkload } from "../cluster/workload.ts";
import type { Clock } from "../lib/clock.ts";
import { systemEnv } from "../lib/command.ts";
import { PlatformError } from "../lib/errors.ts";
import type { Log } from "../lib/log.ts";
import { underHostname } from "../lib/under-hostname.ts";
import { beginProcess } from "./begin-process.ts";
import { untilListening } from "./listening.ts";
import { readTail } from "./log-file.ts";
import { isAlive, type ProcessId } from "./process-id.ts";
import type { ProcessWatch } from "./process-watch.ts";
import { RejectedError, type Running, type Runtime, type TaskId, type TaskSpec } from "./runtime.ts";
import type { Sandboxes } from "./sandbox.ts";
import { shim } from "./shim.ts";
import { TaskDirectory, taskIds } from "./task-directory.ts";
import { WatchedProcess } from "./watched-process.ts";

/** The time that prune gives a task to end by itself. */
const PRUNE_GRACE_MS = 2000;

interface ProcessRuntimeOptions {
  /** Tasks' files go to TASK_ID below it. */
  directory: string;
  sandboxes: Sandboxes;
  clock: Clock;
  log: Log;
  /** PATH of tasks that have none of their own. */
  path: string;
  processes: ProcessWatch;
}

export class ProcessRuntime implements Runtime<ProcessWorkload> {
  readonly #directory: string;
  readonly #sandboxes: Sandboxes;
  readonly #clock: Clock;
  readonly #log: Log;
  readonly #path: string;
  readonly #processes: ProcessWatch;
  // BOUNDED: by the running tasks; keyed by task id.
  readonly #watched = new Map<string, WatchedProcess>();

  constructor({ directory, sandboxes, clock, log, path, processes }: ProcessRuntimeOptions) {
    this.#directory = directory;
    this.#sandboxes = sandboxes;
    this.#clock = clock;
    this.#log = log;
    this.#path = path;
    this.#processes = processes;
  }

  prepare({ id, naming, address }: TaskSpec<ProcessWorkload>): Promise<string> {
    return this.#sandboxes.create(id, naming, address);
  }

  async start({ id, name, workload, naming, ports }: TaskSpec<ProcessWorkload>): Promise<Running> {
    const { command, env, workdir } = workload;
    const cwd = workdir ?? "/";
    const path = env.PATH ?? this.#path;
    await this.#check(command[0]!, path, cwd);
    // A child that the last run left behind may hold its ports.
    await this.#sandboxes.clear(id);
    const directory = this.#directoryOf(id);
    const task = shim(directory.path, command, { PATH: path, HOME: "/", HOSTNAME: naming.hostname ?? name, ...env });
    const ip = await programOf("ip", "iproute2");
    const inner =
      naming.hostname === null
        ? task.argv
        : underHostname(await programOf("unshare", "util-linux"), naming.hostname, task.argv);
    const argv = [ip, "netns", "exec", this.#sandboxes.nameOf(id), ...inner];
    const { id: process, logFrom } = await beginProcess({ directory, argv, env: task.env, cwd, clock: this.#clock });
    return this.#watch(id, directory, process, logFrom, untilListening(this.#clock, process.pid, ports));
  }

  async adopt({ id }: TaskId): Promise<Running | undefined> {
    const directory = this.#directoryOf(id);
    const process = await directory.processId();
    if (process === undefined || !isAlive(process) || !(await this.#sandboxes.exists(id))) return undefined;
    return this.#watch(id, directory, process, await directory.logBytes(), null);
  }

  async remove({ id }: TaskId): Promise<void> {
    this.#watched.get(id)?.close();
    this.#watched.delete(id);
    await this.#sandboxes.remove(id);
    await rm(this.#directoryOf(id).path, { recursive: true, force: true });
  }

  async prune(keep: () => Iterable<string>): Promise<void> {
    const ids = await taskIds(this.#directory);
    // All at the same time, for each may take its grace.
    await Promise.all(
      ids.map(async (id) => {
        if ([...keep()].includes(id)) return;
        this.#log.info("a task that this node has no more is removed", { task: id });
        await (await this.adopt({ id }))?.stop(PRUNE_GRACE_MS);
        await this.remove({ id });
      }),
    );
    await this.#sandboxes.prune(keep);
  }

  /** Its log has no times, so `since` cannot be had. */
  async logs({ id }: TaskId, { follow, tail, since }: LogQuery): Promise<Readable | undefined> {
    if (since !== null) throw new RejectedError("the log of a process carries no times: leave out --since");
    const directory = this.#directoryOf(id);
    return (await directory.exists()) ? readTail(directory.log, { follow, tail, clock: this.#clock }) : undefined;
  }

  close(): void {
    for (const watched of this.#watched.values()) watched.close();
    this.#watched.clear();
  }

  #directoryOf(id: string): TaskDirectory {
    return new TaskDirectory(join(this.#directory, id));
  }

  #watch(
    id: string,
    directory: TaskDirectory,
    process: ProcessId & { startedAt: number },
    logFrom: number,
    ready: Promise<void> | null,
  ): Running {
    this.#watched.get(id)?.close();
    const options = { directory, id: process, logFrom, ready, clock: this.#clock, log: this.#log };
    const watched = new WatchedProcess({ ...options, processes: this.#processes });
    this.#watched.set(id, watched);
    return watched;
  }

  /** Finds before the start the mistakes that exec would only report in the task's log. Throws RejectedError. */
  async #check(file: string, path: string, cwd: string): Promise<void> {
    const isDirectory = await stat(cwd).then(
      (found) => found.isDirectory(),
      () => false,
    );
    if (!isDirectory) throw new RejectedError(`workdir: no such directory '${cwd}'`);
    if ((await findExecutable(file, path, cwd)) === undefined) throw new RejectedError(`exec: no such file '${file}'`);
  }
}

/** The path of the program. Throws PlatformError. */
async function programOf(name: string, debianPackage: string): Promise<string> {
  const path = await findExecutable(name, systemEnv().PATH!, "/");
  if (path === undefined) throw new PlatformError(`'${name}' is not installed`, `apt-get install ${debianPackage}`);
  return path;
}

/**
 * Looks a program up as execvp(3) does: its path; undefined when there is none. `path` is a PATH; relative names begin at
 * `directory`.
 */
export async function findExecutable(file: string, path: string, directory: string): Promise<string | undefined> {
  const candidates = file.includes("/")
    ? [resolve(directory, file)]
    : path
        .split(":")
        .map((folder) => (isAbsolute(folder) ? folder : join(directory, folder)))
        .map((folder) => join(folder, file));
  for (const candidate of candidates) if (await isExecutable(candidate)) return candidate;
  return undefined;
}

async function isExecutable(path: string): Promise<boolean> {
  try {
    await access(path, constants.X_OK);
    return (await stat(path)).isFile();
  } catch {
    return false;
  }
}
