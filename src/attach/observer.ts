// Looks after what is attached on this node: its namespace is at hand while it runs, and its state is told.

import { searchOf } from "../cluster/container-naming.ts";
import type { State, TaskStatus } from "../cluster/schema.ts";
import type { Clock } from "../lib/clock.ts";
import type { ContainerList } from "../runtime/container-list.ts";
import type { Container } from "../runtime/docker-engine.ts";
import { untilListening } from "../runtime/listening.ts";
import { containerStatus, type Seen, seen } from "./container-status.ts";
import type { Namespaces } from "./namespaces.ts";
import { type AttachedRow, namespaceOf } from "./rows.ts";

/** So long after the start a silent engine is taken to be away. */
const ENGINE_MS = 2000;

export interface AttachmentObserverParts {
  clock: Clock;
  /** The domain of every name of the overlay. */
  domain: string;
  containers: ContainerList;
  namespaces: Namespaces;
  state(): State | undefined;
  nodeId(): string | undefined;
  problemOf(address: string): string | undefined;
  report(status: TaskStatus): void;
}

export class AttachmentObserver {
  readonly #parts: AttachmentObserverParts;
  readonly #startedAt: number;
  readonly #changed: () => void;
  // BOUNDED: by the containers that run, see keepOnly(); container id to the process, and whether it takes connections.
  readonly #listening = new Map<string, { pid: number; listens: boolean }>();

  /** `changed` is called when it sees something later. */
  constructor(parts: AttachmentObserverParts, changed: () => void) {
    this.#parts = parts;
    this.#startedAt = parts.clock.monotonic();
    this.#changed = changed;
  }

  /** Has its namespace at hand while it runs, and says at once when it does not. False when it is gone for good. */
  async bind(row: AttachedRow): Promise<boolean> {
    const { namespaces, containers, state } = this.#parts;
    const { subject } = row.attachment;
    const netns = namespaceOf(subject);
    if (netns !== undefined) {
      if (!(await namespaces.exists(netns))) return false;
      await namespaces.bindNamespace(subject);
      return true;
    }
    // A row that is news to this node may be of a container that did not matter when all were looked at.
    const container = containers.get(subject) ?? (containers.isCurrent ? await containers.find(subject) : undefined);
    if (container === undefined) return this.#bindUnseen(row);
    if (!container.isRunning) {
      await namespaces.unbind(subject);
      this.#report(row, containerStatus(container, false));
      return true;
    }
    await namespaces.bindContainer(container);
    const networks = row.links.flatMap(({ networkId }) => state()?.networks.get(networkId) ?? []);
    const gateway = networks[0]?.gateway;
    if (gateway !== undefined) {
      await namespaces.pointResolver(container, gateway, searchOf(networks, this.#parts.domain, []));
    }
    return true;
  }

  /** Of a row whose links were made, or were tried. */
  reportRunning(row: AttachedRow): void {
    const { subject } = row.attachment;
    if (!this.#parts.namespaces.has(subject)) return;
    const container = this.#parts.containers.get(subject);
    const problem = this.problemOf(row);
    if (problem !== undefined) this.#report(row, seen("rejected", container?.startedAt ?? row.createdAt, problem));
    else if (container === undefined) this.#report(row, seen("running", row.createdAt));
    else this.#report(row, containerStatus(container, this.#listens(container, row)));
  }

  reportGone(row: AttachedRow): void {
    this.#report(row, seen("shutdown", this.#parts.clock.now()));
  }

  problemOf({ links }: AttachedRow): string | undefined {
    const [problem] = links.flatMap(({ address }) => this.#parts.problemOf(address) ?? []);
    return problem === undefined ? undefined : `its link cannot be made: ${problem}`;
  }

  keepOnly(isKept: (containerId: string) => boolean): void {
    for (const id of this.#listening.keys()) if (!isKept(id)) this.#listening.delete(id);
  }

  /** The list does not have it: it was removed, or nobody can tell. */
  async #bindUnseen(row: AttachedRow): Promise<boolean> {
    const { containers, namespaces, clock } = this.#parts;
    const { subject } = row.attachment;
    if (containers.isCurrent) return false;
    if (namespaces.has(subject) || (await namespaces.adopt(subject))) return true;
    if (clock.monotonic() - this.#startedAt >= ENGINE_MS)
      this.#report(row, seen("failed", clock.now(), "Docker does not answer, and nothing runs in its namespace"));
    return true;
  }

  /** Whether it takes connections on a port that its service publishes; where none is, it need not. */
  #listens({ id, pid }: Container, { service }: AttachedRow): boolean {
    const ports = service?.ports.filter(({ protocol }) => protocol === "tcp").map(({ target }) => target) ?? [];
    const known = this.#listening.get(id);
    if (known?.pid === pid) return known.listens;
    this.#listening.set(id, { pid, listens: ports.length === 0 });
    if (ports.length === 0) return true;
    void untilListening(this.#parts.clock, pid, ports).then(() => {
      if (this.#listening.get(id)?.pid !== pid) return;
      this.#listening.set(id, { pid, listens: true });
      this.#changed();
    });
    return false;
  }

  #report({ id }: AttachedRow, status: Seen): void {
    this.#parts.report({ taskId: id, nodeId: this.#parts.nodeId()!, restarts: 0, ...status });
  }
}
