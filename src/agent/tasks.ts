// The node's tasks: the runtimes that run them, and the supervisor that makes them what the state says.
import { emptyState } from "../cluster/state.ts";
import { systemClock } from "../lib/clock.ts";
import type { Ipv4 } from "../lib/ip.ts";
import type { Log } from "../lib/log.ts";
import { DockerRuntime } from "../runtime/docker.ts";
import type { DockerEngine } from "../runtime/docker-engine.ts";
import type { DockerWatch } from "../runtime/docker-watch.ts";
import { ProcessRuntime } from "../runtime/process.ts";
import type { ProcessWatch } from "../runtime/process-watch.ts";
import { Runtimes } from "../runtime/runtimes.ts";
import type { Sandboxes } from "../runtime/sandbox.ts";
import { type DesiredTask, Supervisor } from "../runtime/supervisor.ts";
import type { Session } from "../session/session.ts";
import type { DataPath } from "../worker/data-path.ts";
import type { Config } from "./config.ts";
import type { InForce } from "./in-force.ts";
import type { NodeState } from "./node-state.ts";
import { pathsOf } from "./paths.ts";
import { drainTask } from "./task-drain.ts";

const DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

export interface RuntimesOptions {
  config: Config;
  log: Log;
  session: Session;
  /** The id of the data directory. */
  directoryId: string;
  sandboxes: Sandboxes;
  engine: DockerEngine;
  watch: DockerWatch;
  processes: ProcessWatch;
}

export function createRuntimes({
  config,
  log,
  session,
  directoryId,
  sandboxes,
  engine,
  watch,
  processes,
}: RuntimesOptions): Runtimes {
  const clock = systemClock;
  const path = process.env.PATH ?? DEFAULT_PATH;
  const node = () => ({ id: directoryId, name: config.node.name, rowId: session.nodeId });
  return new Runtimes({
    process: new ProcessRuntime({ directory: pathsOf(config).tasks, sandboxes, clock, log, path, processes }),
    docker: new DockerRuntime({ node, engine, watch, sandboxes, clock, log, environment: process.env, processes }),
    hasDocker: () => engine.isThere,
  });
}

interface TasksOptions {
  log: Log;
  session: Session;
  runtime: Runtimes;
  inForce: Pick<InForce, "again" | "problemOf">;
  dataPath: Pick<DataPath, "liveFlows">;
  nodeState: Pick<NodeState, "setStatus">;
}

/** The tasks of a node, which has an id only once the cluster knows it. */
export class Tasks {
  readonly #options: TasksOptions;
  #supervisor: Supervisor | undefined;

  constructor(options: TasksOptions) {
    this.#options = options;
  }

  apply(tasks: readonly DesiredTask[]): void {
    this.#supervisor ??= this.#supervise();
    this.#supervisor.apply(tasks);
  }

  /** See Supervisor.removeOthers. */
  removeOthers(): void {
    this.#supervisor?.removeOthers();
  }

  /** How far the task's preparation is; undefined while nothing is being prepared. */
  progressOf(taskId: string): string | undefined {
    return this.#supervisor?.progressOf(taskId);
  }

  /** Tasks go on without the agent. */
  async close(): Promise<void> {
    await this.#supervisor?.close();
  }

  #supervise(): Supervisor {
    const { log, session, runtime, nodeState } = this.#options;
    return new Supervisor({
      runtime,
      clock: systemClock,
      log,
      // The node gets another id when it is removed from the cluster and comes back.
      nodeId: () => session.nodeId!,
      link: ({ id }) => this.#link(id),
      drain: ({ id }) => this.#drain(id),
      report: (status) => nodeState.setStatus(status),
    });
  }

  async #link(id: string): Promise<void> {
    const { inForce } = this.#options;
    await inForce.again();
    for (const address of this.#addressesOf(id)) {
      const problem = inForce.problemOf(address);
      if (problem !== undefined) throw new Error(`its link cannot be made: ${problem}`);
    }
  }

  async #drain(id: string): Promise<void> {
    const { session, dataPath } = this.#options;
    const { tasks, services } = session.state ?? emptyState();
    // A service that was removed has no address: no client begins or keeps a connection to it.
    const graceMs = services.get(tasks.get(id)?.serviceId ?? "")?.stopGraceMs ?? 0;
    const liveFlows = (servers: readonly Ipv4[]): Promise<number> => dataPath.liveFlows(servers);
    await drainTask({ clock: systemClock, liveFlows }, this.#addressesOf(id), graceMs);
  }

  #addressesOf(id: string): string[] {
    return Object.values(this.#options.session.state?.tasks.get(id)?.addresses ?? {});
  }
}
