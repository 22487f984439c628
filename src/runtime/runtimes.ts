// Both runtimes as one: a task goes to the runtime that its workload names, and to both when its service is gone.
import type { Readable } from "node:stream";
import type { LogQuery } from "../cluster/protocol.ts";
import type { ContainerWorkload, ProcessWorkload, Workload } from "../cluster/workload.ts";
import type { Preparation, Running, Runtime, TaskId, TaskSpec } from "./runtime.ts";

/** A task of a service that may be gone: then its workload is null. */
export interface AnyTask extends TaskId {
  readonly workload: Workload | null;
}

export type AnyRuntime = Runtime<Workload | null, AnyTask>;

export interface RuntimesOptions {
  process: Runtime<ProcessWorkload>;
  docker: Runtime<ContainerWorkload>;
  /** Whether the node has Docker, answering or not: without it no task can be a container. */
  hasDocker: () => boolean;
}

export class Runtimes implements AnyRuntime {
  readonly #process: Runtime<ProcessWorkload>;
  readonly #docker: Runtime<ContainerWorkload>;
  readonly #hasDocker: () => boolean;

  constructor({ process, docker, hasDocker }: RuntimesOptions) {
    this.#process = process;
    this.#docker = docker;
    this.#hasDocker = hasDocker;
  }

  prepare(spec: TaskSpec<Workload | null>, preparation: Preparation): Promise<string> {
    const { workload, ...rest } = spec;
    if (workload?.runtime === "docker") return this.#docker.prepare({ ...rest, workload }, preparation);
    if (workload?.runtime === "process") return this.#process.prepare({ ...rest, workload }, preparation);
    throw new Error(`${spec.name} has no workload: its service is gone`);
  }

  start(spec: TaskSpec<Workload | null>): Promise<Running> {
    const { workload, ...rest } = spec;
    if (workload?.runtime === "docker") return this.#docker.start({ ...rest, workload });
    if (workload?.runtime === "process") return this.#process.start({ ...rest, workload });
    throw new Error(`${spec.name} has no workload: its service is gone`);
  }

  async adopt(task: AnyTask): Promise<Running | undefined> {
    for (const runtime of this.#candidates(task)) {
      const running = await runtime.adopt(task);
      if (running !== undefined) return running;
    }
    return undefined;
  }

  async remove(task: AnyTask): Promise<void> {
    for (const runtime of this.#candidates(task)) await runtime.remove(task);
  }

  /** Prunes Docker's first: the process runtime ends what is left in a namespace when it removes that. */
  async prune(keep: () => Iterable<string>): Promise<void> {
    await this.#docker.prune(keep);
    await this.#process.prune(keep);
  }

  async logs(task: AnyTask, query: LogQuery): Promise<Readable | undefined> {
    for (const runtime of this.#candidates(task)) {
      const log = await runtime.logs(task, query);
      if (log !== undefined) return log;
    }
    return undefined;
  }

  close(): void {
    this.#docker.close();
    this.#process.close();
  }

  #candidates({ workload }: AnyTask): (Runtime<ContainerWorkload> | Runtime<ProcessWorkload>)[] {
    if (workload?.runtime === "docker") return [this.#docker];
    if (workload?.runtime === "process") return [this.#process];
    return this.#hasDocker() ? [this.#docker, this.#process] : [this.#process];
  }
}
