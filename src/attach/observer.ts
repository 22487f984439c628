// Watches what is attached on this node: keeps the network namespace of each running container at hand, and reports the
// state of each in the words of tasks.
import { searchOf } from "../cluster/container-naming.ts";
import type { TaskStatus } from "../cluster/schema.ts";
import type { State } from "../cluster/tables.ts";
import type { Clock } from "../lib/clock.ts";
import type { ContainerList } from "../runtime/container-list.ts";
import type { Container } from "../runtime/docker-engine.ts";
import { describeExit } from "../runtime/exit.ts";
import { untilListening } from "../runtime/listening.ts";
import type { Namespaces } from "./namespaces.ts";
import type { AttachedRow } from "./rows.ts";
import { namespaceOf } from "./subject.ts";

/** A Docker that has said nothing for this time after the start counts as away. */
const DOCKER_MS = 2000;

interface AttachmentObserverOptions {
  clock: Clock;
  /** The domain of every name of the overlay. */
  domain: string;
  containers: ContainerList;
  namespaces: Namespaces;
  state(): State | undefined;
  nodeId(): string | undefined;
  /** Why the link of an address cannot be made; undefined: it is made. */
  problemOf(address: string): string | undefined;
  report(status: TaskStatus): void;
  /** A container began to listen. */
  changed(): void;
}

type Status = Omit<TaskStatus, "taskId" | "nodeId" | "restarts">;

export class AttachmentObserver {
  readonly #options: AttachmentObserverOptions;
  readonly #startedAt: number;
  // BOUNDED: by the containers that run, see keepOnly(); container id to the process, and whether it takes connections.
  readonly #listening = new Map<string, { pid: number; listens: boolean }>();

  constructor(options: AttachmentObserverOptions) {
    this.#options = options;
    this.#startedAt = options.clock.monotonic();
  }

  /**
   * Names the row's network namespace while its container runs, and reports one that does not run. Returns false when the
   * container or namespace is gone for good.
   */
  async bind(row: AttachedRow): Promise<boolean> {
    const { namespaces, containers, state } = this.#options;
    const { subject } = row.attachment;
    const netns = namespaceOf(subject);
    if (netns !== undefined) {
      if (!(await namespaces.exists(netns))) return false;
      await namespaces.bindNamespace(subject);
      return true;
    }
    // The container of a row that is new to this node may not have mattered when all containers were looked at.
    const container = containers.get(subject) ?? (containers.isCurrent ? await containers.find(subject) : undefined);
    if (container === undefined) return this.#bindUnseen(row);
    if (!container.isRunning) {
      await namespaces.unbind(subject);
      this.#report(row, statusOf(container, false));
      return true;
    }
    await namespaces.bindContainer(container);
    const networks = row.links.flatMap(({ networkId }) => state()?.networks.get(networkId) ?? []);
    const gateway = networks[0]?.gateway;
    if (gateway !== undefined) {
      await namespaces.pointResolver(container, gateway, searchOf(networks, this.#options.domain, []));
    }
    return true;
  }

  /** Reports a row after its links were made, or could not be. */
  reportRunning(row: AttachedRow): void {
    const { subject } = row.attachment;
    if (!this.#options.namespaces.has(subject)) return;
    const container = this.#options.containers.get(subject);
    const problem = this.problemOf(row);
    if (problem !== undefined) this.#report(row, status("rejected", container?.startedAt ?? row.createdAt, problem));
    else if (container === undefined) this.#report(row, status("running", row.createdAt));
    else this.#report(row, statusOf(container, this.#listens(container, row)));
  }

  reportGone(row: AttachedRow): void {
    this.#report(row, status("shutdown", this.#options.clock.now()));
  }

  problemOf({ links }: AttachedRow): string | undefined {
    const [problem] = links.flatMap(({ address }) => this.#options.problemOf(address) ?? []);
    return problem === undefined ? undefined : `its link cannot be made: ${problem}`;
  }

  keepOnly(isKept: (containerId: string) => boolean): void {
    for (const id of this.#listening.keys()) if (!isKept(id)) this.#listening.delete(id);
  }

  /** For a container that is not in the list: it was removed, or Docker is away. */
  async #bindUnseen(row: AttachedRow): Promise<boolean> {
    const { containers, namespaces, clock } = this.#options;
    const { subject } = row.attachment;
    if (containers.isCurrent) return false;
    if (namespaces.has(subject) || (await namespaces.adopt(subject))) return true;
    if (clock.monotonic() - this.#startedAt >= DOCKER_MS)
      this.#report(row, status("failed", clock.now(), "Docker does not answer, and nothing runs in its namespace"));
    return true;
  }

  /** Whether the container takes connections on a TCP port that its service publishes; without such a port, true. */
  #listens({ id, pid }: Container, { service }: AttachedRow): boolean {
    const { clock, changed } = this.#options;
    const ports = service?.ports.filter(({ protocol }) => protocol === "tcp").map(({ target }) => target) ?? [];
    const known = this.#listening.get(id);
    if (known?.pid === pid) return known.listens;
    this.#listening.set(id, { pid, listens: ports.length === 0 });
    if (ports.length === 0) return true;
    void untilListening(clock, pid, ports).then(() => {
      if (this.#listening.get(id)?.pid !== pid) return;
      this.#listening.set(id, { pid, listens: true });
      changed();
    });
    return false;
  }

  #report({ id }: AttachedRow, reported: Status): void {
    this.#options.report({ taskId: id, nodeId: this.#options.nodeId()!, restarts: 0, ...reported });
  }
}

function status(state: Status["state"], since: number, error: string | null = null): Status {
  return { state, since, error, exitCode: null, message: null };
}

/** A container's state. `listens` decides for one that runs and has no health check. */
function statusOf(container: Container, listens: boolean): Status {
  const { isRunning, health, startedAt, finishedAt, exitCode, oomKilled } = container;
  if (!isRunning) {
    const { error } = describeExit(exitCode, "", oomKilled);
    return { ...status(error === null ? "complete" : "failed", Math.max(finishedAt, 0), error), exitCode };
  }
  if (health === "unhealthy") return status("failed", startedAt, "its health check fails");
  if (health === "starting")
    return { ...status("starting", startedAt), message: "its health check has not passed yet" };
  return status(health === "healthy" || listens ? "running" : "starting", startedAt);
}
