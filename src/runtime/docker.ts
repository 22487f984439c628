// Runs a task as two containers: one that holds its network namespace and does nothing else, and the task's own in it.
// So the link is there before the task's first instruction, and stays when the task is started again.
import type { Readable } from "node:stream";
import type Docker from "dockerode";
import type { LogQuery } from "../cluster/protocol.ts";
import type { ContainerWorkload } from "../cluster/workload.ts";
import type { Clock } from "../lib/clock.ts";
import { messageOf } from "../lib/errors.ts";
import type { Log } from "../lib/log.ts";
import { readLog } from "./container-log.ts";
import {
  isOf,
  NODE_ID_LABEL,
  type OwnNode,
  pauseOptions,
  ROLE_LABEL,
  type Role,
  TASK_LABEL,
  taskOptions,
} from "./container-options.ts";
import { type Container, type ContainerEvent, type DockerEngine, DockerError } from "./docker-engine.ts";
import type { DockerWatch } from "./docker-watch.ts";
import { followLog } from "./followed-log.ts";
import { ensurePauseImage } from "./pause-image.ts";
import { processIdOf, startedAtOf } from "./process-id.ts";
import type { ProcessWatch } from "./process-watch.ts";
import { ensureImage } from "./pull-image.ts";
import {
  AwayError,
  type Preparation,
  RejectedError,
  type Running,
  type Runtime,
  type TaskId,
  type TaskSpec,
} from "./runtime.ts";
import type { Sandboxes } from "./sandbox.ts";
import { WatchedContainer } from "./watched-container.ts";

/** HTTP's status: a container's name is taken, or the container is being removed. */
const CONFLICT = 409;
/** The time that prune gives a task to end by itself. */
const PRUNE_GRACE_MS = 2000;

interface DockerRuntimeOptions {
  /** The node that the containers belong to. */
  node: () => OwnNode;
  engine: DockerEngine;
  /** The caller starts and stops it. */
  watch: DockerWatch;
  sandboxes: Sandboxes;
  clock: Clock;
  log: Log;
  /** Where the node's own registry credentials are. */
  environment: NodeJS.ProcessEnv;
  processes: ProcessWatch;
}

interface Pair {
  pause: Container | undefined;
  task: Container | undefined;
  /** Ids of all of the task's containers. */
  all: string[];
}

export class DockerRuntime implements Runtime<ContainerWorkload> {
  readonly #options: DockerRuntimeOptions;
  readonly #engine: DockerEngine;
  readonly #stopListening: () => void;
  // BOUNDED: by the running tasks; keyed by task id.
  readonly #watched = new Map<string, WatchedContainer>();
  #keep: (() => Iterable<string>) | undefined;

  constructor(options: DockerRuntimeOptions) {
    this.#options = options;
    this.#engine = options.engine;
    this.#stopListening = options.watch.listen({
      opened: () => this.#opened(),
      happened: (event) => this.#happened(event),
    });
  }

  async prepare(spec: TaskSpec<ContainerWorkload>, preparation: Preparation): Promise<string> {
    return this.#guard(async () => {
      const { pause, task, all } = await this.#pairOf(spec.id);
      if (task?.isRunning !== true) await ensureImage(this.#engine, spec.workload, preparation, this.#options);
      if (pause?.isRunning === true) return this.#options.sandboxes.bind(spec.id, pause.pid);
      await this.#options.sandboxes.unlink(spec.id);
      for (const id of all) await this.#removeContainer(id);
      const { pid } = await this.#startPause(spec);
      return this.#options.sandboxes.bind(spec.id, pid);
    });
  }

  async start(spec: TaskSpec<ContainerWorkload>): Promise<Running> {
    return this.#guard(async () => {
      const { pause, task } = await this.#pairOf(spec.id);
      if (pause?.isRunning !== true) throw new Error("the container that holds its network namespace is gone");
      if (task !== undefined) {
        await this.#engine.stop(task.id, spec.workload.stopGracePeriodMs); // an unhealthy one runs yet
        await this.#removeContainer(task.id);
      }
      const container = await this.#run(taskOptions(spec, this.#options.node(), pause.id));
      return this.#watch(spec.id, container, pause.id, spec.ports);
    });
  }

  async adopt({ id }: TaskId): Promise<Running | undefined> {
    try {
      return await this.#guard(() => this.#adopt(id));
    } catch (error) {
      if (!(error instanceof AwayError)) throw error;
      const runningSince = await this.#runningSince(id);
      throw new AwayError(error.message, error.back, { cause: error.cause, ...(runningSince && { runningSince }) });
    }
  }

  async #adopt(id: string): Promise<Running | undefined> {
    const { pause, task } = await this.#pairOf(id);
    if (task?.isRunning !== true || task.health === "unhealthy") return undefined;
    if (pause?.isRunning !== true || task.networkMode !== `container:${pause.id}`) return undefined;
    const watched = this.#watched.get(id);
    const isSame = watched?.containerId === task.id && watched.startedAt === task.startedAt;
    return isSame ? watched : this.#watch(id, task, pause.id, null);
  }

  /** Since when the task runs, without asking Docker: by the second oldest process in its namespace; the oldest holds it. */
  async #runningSince(id: string): Promise<number | undefined> {
    const found = await Promise.all((await this.#options.sandboxes.pids(id)).map(processIdOf));
    const processes = found.filter((process) => process !== undefined);
    const [, oldest] = processes.toSorted((a, b) => Number(a.startTime) - Number(b.startTime));
    return oldest === undefined ? undefined : startedAtOf(oldest);
  }

  async remove({ id }: TaskId): Promise<void> {
    this.#watched.get(id)?.close();
    this.#watched.delete(id);
    const { all } = await this.#guard(() => this.#pairOf(id));
    for (const container of all) await this.#guard(() => this.#removeContainer(container));
    await this.#options.sandboxes.unbind(id);
  }

  /** Prunes again each time that Docker comes back: a container may have outlived its task in between. */
  async prune(keep: () => Iterable<string>): Promise<void> {
    this.#keep = keep;
    if (this.#options.watch.isUp) await this.#prune(keep);
  }

  /** Removes all of this node's tasks' containers. Throws DockerError. */
  removeAll(): Promise<void> {
    return this.#prune(() => []);
  }

  async logs({ id }: TaskId, query: LogQuery): Promise<Readable | undefined> {
    return this.#guard(async () => {
      const { task } = await this.#pairOf(id);
      if (task === undefined) return undefined;
      if (!query.follow) return readLog(this.#engine, task, query);
      const { clock, log } = this.#options;
      const container = async () => (await this.#pairOf(id)).task;
      const isWanted = () => [...(this.#keep?.() ?? [])].includes(id);
      return followLog({ engine: this.#engine, clock, log, container, isWanted }, query);
    });
  }

  close(): void {
    this.#stopListening();
    for (const watched of this.#watched.values()) watched.close();
    this.#watched.clear();
  }

  #opened(): void {
    for (const watched of this.#watched.values()) void watched.look();
    if (this.#keep === undefined) return;
    this.#prune(this.#keep).catch((error: unknown) => {
      this.#options.log.warn("containers of tasks that are gone are not removed yet", { reason: messageOf(error) });
    });
  }

  #happened({ id, action, attributes }: ContainerEvent): void {
    if (!/^(start|die|oom|destroy|health_status)/.test(action)) return;
    const watched = this.#watched.get(attributes[TASK_LABEL] ?? "");
    if (watched?.has(id) === true) void watched.look();
  }

  /** All at the same time, for each may take its grace. */
  async #prune(keep: () => Iterable<string>): Promise<void> {
    const rows = await this.#list([]);
    const tasks = new Set(rows.map(({ Labels }) => Labels[TASK_LABEL]!));
    await Promise.all(
      [...tasks].map(async (task) => {
        if ([...keep()].includes(task)) return;
        this.#options.log.info("a task that this node has no more is removed", { task });
        for (const { Id, Labels } of rows.filter((row) => row.Labels[TASK_LABEL] === task)) {
          const isTask = Labels[ROLE_LABEL] === ("task" satisfies Role);
          if (isTask) await this.#engine.stop(Id, PRUNE_GRACE_MS).catch(() => {}); // then it is removed by force
          await this.#removeContainer(Id);
        }
        await this.#options.sandboxes.unbind(task);
      }),
    );
  }

  async #pairOf(task: string): Promise<Pair> {
    const rows = await this.#list([`${TASK_LABEL}=${task}`]);
    const find = async (role: Role): Promise<Container | undefined> => {
      const row = rows.find(({ Labels }) => Labels[ROLE_LABEL] === role);
      return row === undefined ? undefined : this.#engine.container(row.Id);
    };
    const [pauseContainer, taskContainer] = await Promise.all([find("pause"), find("task")]);
    return { pause: pauseContainer, task: taskContainer, all: rows.map(({ Id }) => Id) };
  }

  /** The containers of this node's tasks, running or not; a task's own container before the one that holds its namespace. */
  async #list(labels: readonly string[]): Promise<Docker.ContainerInfo[]> {
    const own = [NODE_ID_LABEL, TASK_LABEL, ROLE_LABEL];
    const node = this.#options.node();
    const rows = await this.#engine.call("docker ps", (abortSignal) =>
      this.#engine.docker.listContainers({ all: true, filters: { label: [...own, ...labels] }, abortSignal }),
    );
    return rows
      .filter(({ Labels }) => isOf(node, Labels))
      .toSorted((a, b) => b.Labels[ROLE_LABEL]!.localeCompare(a.Labels[ROLE_LABEL]!));
  }

  async #startPause(spec: TaskSpec<ContainerWorkload>): Promise<Container> {
    await ensurePauseImage(this.#engine);
    return this.#run(pauseOptions(spec, this.#options.node()));
  }

  /** Creates and starts a container. Throws RejectedError when Docker refuses it. */
  async #run(options: Docker.ContainerCreateOptions): Promise<Container> {
    let id: string | undefined;
    try {
      const created = await this.#create(options);
      id = created.id;
      await this.#engine.call("docker start", () => created.start());
    } catch (error) {
      if (id !== undefined) await this.#removeContainer(id).catch(() => {}); // the first error is the one to report
      if (error instanceof DockerError && error.status !== undefined && error.status !== CONFLICT)
        throw new RejectedError(error.message, { cause: error });
      throw error;
    }
    const container = await this.#engine.container(id);
    if (container === undefined) throw new Error("its container was removed while it started");
    return container;
  }

  /** Creates a container. The name has the task's id in it, so that one with that name already is from an earlier try. */
  async #create(options: Docker.ContainerCreateOptions): Promise<Docker.Container> {
    const create = (): Promise<Docker.Container> =>
      this.#engine.call("docker create", (late) => {
        const answer = this.#engine.docker.createContainer(options);
        // Docker goes on with a call after its deadline: a container made then is not wanted.
        answer.then(({ id }) => (late.aborted ? this.#removeContainer(id) : undefined)).catch(() => {});
        return answer;
      });
    try {
      return await create();
    } catch (error) {
      if (!(error instanceof DockerError && error.status === CONFLICT)) throw error;
      const earlier = await this.#engine.container(options.name!);
      if (earlier !== undefined && isOf(this.#options.node(), earlier.labels)) await this.#removeContainer(earlier.id);
      return create();
    }
  }

  async #watch(
    task: string,
    container: Container,
    pauseId: string,
    ports: readonly number[] | null,
  ): Promise<WatchedContainer> {
    this.#watched.get(task)?.close();
    const process = container.pid === 0 ? undefined : await processIdOf(container.pid);
    const watched = new WatchedContainer({ ...this.#options, container, pauseId, process, ports });
    this.#watched.set(task, watched);
    return watched;
  }

  /** Removes the container and its anonymous volumes. One that is gone is no error. */
  async #removeContainer(id: string): Promise<void> {
    try {
      await this.#engine.call("docker rm", () => this.#engine.docker.getContainer(id).remove({ force: true, v: true }));
    } catch (error) {
      // A conflict: another call removes it just now.
      if (!(error instanceof DockerError && (error.status === 404 || error.status === CONFLICT))) throw error;
    }
  }

  #guard<T>(call: () => Promise<T>): Promise<T> {
    return this.#options.watch.guard(call);
  }
}
