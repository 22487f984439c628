// Attaches containers and network namespaces that overlayd did not make: containers that ask for it by their labels, and
// what a person names. Level-triggered: it compares Docker's containers with the rows of the state, asks the leader for
// the rows that are missing, and gives back the rows of what is gone.
import type { CommandInput, CommandResult } from "../cluster/commands.ts";
import { findByName } from "../cluster/lookup.ts";
import type { TaskStatus } from "../cluster/schema.ts";
import type { AppliedChange } from "../cluster/state.ts";
import type { State } from "../cluster/tables.ts";
import type { Clock, Timer } from "../lib/clock.ts";
import { messageOf, UserError } from "../lib/errors.ts";
import type { Log } from "../lib/log.ts";
import { didYouMean } from "../lib/nearest.ts";
import { ReconcileLoop } from "../lib/reconcile-loop.ts";
import { Turns } from "../lib/turns.ts";
import { ContainerList } from "../runtime/container-list.ts";
import { NODE_LABEL } from "../runtime/container-options.ts";
import type { Container, DockerEngine } from "../runtime/docker-engine.ts";
import type { DockerWatch } from "../runtime/docker-watch.ts";
import type { DetachedContainers } from "./detached.ts";
import { type AttachmentSpec, asksFor, LabelError, readLabels } from "./labels.ts";
import type { Namespaces } from "./namespaces.ts";
import { AttachmentObserver } from "./observer.ts";
import { type RejectedContainer, RejectedContainers, versionsOf } from "./rejected.ts";
import { type AttachedRow, OwnRows, rowsOfSubject } from "./rows.ts";
import { findContainer, isMeant, NETNS, requireOwnNamespace } from "./subject.ts";

/** Namespaces have no events, and what was rejected or could not be looked at is tried again. */
const LOOK_MS = 5000;

interface AttachmentsOptions {
  nodeName: string;
  /** The domain of every name of the overlay. */
  domain: string;
  log: Log;
  clock: Clock;
  engine: Pick<DockerEngine, "container" | "containers">;
  watch: Pick<DockerWatch, "isUp" | "listen">;
  namespaces: Namespaces;
  detached: DetachedContainers;
  state(): State | undefined;
  /** Whether the state is a leader's; one from disk may lack what was attached last. */
  isHeard(): boolean;
  nodeId(): string | undefined;
  execute(command: CommandInput): Promise<CommandResult>;
  /** Makes the links that are missing; resolves when it is done. */
  relink(): Promise<void>;
  /** Why the link of an address cannot be made; undefined: it is made. */
  problemOf(address: string): string | undefined;
  report(status: TaskStatus): void;
}

export class Attachments {
  readonly #options: AttachmentsOptions;
  readonly #containers: ContainerList;
  readonly #namespaces: Namespaces;
  readonly #rows: OwnRows;
  readonly #observer: AttachmentObserver;
  readonly #rejected: RejectedContainers;
  readonly #reconciling: ReconcileLoop;
  readonly #turns = new Turns();
  #timer: Timer | undefined;
  /** The links that were made last. */
  #linked = "";
  #arePruned = false;

  constructor(options: AttachmentsOptions) {
    const { clock, log, engine, watch } = options;
    const changed = () => this.changed();
    this.#options = options;
    this.#namespaces = options.namespaces;
    this.#rows = new OwnRows(options);
    this.#rejected = new RejectedContainers({ clock, log });
    this.#reconciling = new ReconcileLoop(
      clock,
      () => this.#turns.run(() => this.#reconcile()),
      (error) => log.error("containers are not attached as they should be; trying again", { reason: messageOf(error) }),
    );
    const matters = (id: string, labels: Container["labels"]) => asksFor(labels) !== undefined || this.#rows.has(id);
    this.#containers = new ContainerList({ engine, watch, log, matters, changed });
    this.#observer = new AttachmentObserver({ ...options, containers: this.#containers, changed });
    this.#lookLater();
  }

  async stop(): Promise<void> {
    this.#timer?.cancel();
    await this.#containers.close();
    await this.#reconciling.stop();
    await this.#turns.settled();
  }

  /** The state or a container changed. */
  changed(): void {
    this.#reconciling.ask();
  }

  /** The state changed. Changes that concern neither what is attached here nor what was rejected cost nothing more. */
  stateChanged(changes: readonly AppliedChange[]): void {
    if (changes.some((change) => this.#concerns(change))) this.changed();
  }

  /** Containers of this node that ask to be attached and are not. */
  get rejected(): readonly RejectedContainer[] {
    return this.#rejected.all();
  }

  /** The network namespace and the link names of each row of this node, by the row's id. */
  sandboxes(): Map<string, { netns: string; ifnames: string[] }> {
    const sandboxes = new Map<string, { netns: string; ifnames: string[] }>();
    const all = this.#rows.all();
    for (const subject of new Set(all.map(({ attachment }) => attachment.subject))) {
      const rows = all.filter(({ attachment }) => attachment.subject === subject);
      const addresses = rows.flatMap(({ links }) => links.map(({ address }) => address));
      const found = this.#namespaces.linksOf(subject, new Set(addresses));
      if (found === undefined) continue;
      const { netns, links } = found;
      for (const row of rows) {
        sandboxes.set(row.id, { netns, ifnames: row.links.map(({ address }) => links.get(address)!) });
      }
    }
    return sandboxes;
  }

  /** Attaches a container or namespace that a person names; returns its addresses. Throws UserError. */
  attach(reference: string, spec: AttachmentSpec): Promise<{ id: string; addresses: string[] }> {
    return this.#turns.run(async () => {
      const container = await findContainer(reference, this.#options);
      const subject = container?.id ?? NETNS + reference;
      if (container === undefined) await this.#namespaces.bindNamespace(subject);
      else await this.#bind(container);
      await this.#namespaces.lookAgain(subject);
      const id = await this.#rows
        .create({ subject, name: reference, container }, spec)
        .catch(async (error: unknown) => {
          if (!this.#rows.has(subject)) await this.#namespaces.unbind(subject);
          throw error;
        });
      if (container !== undefined) await this.#containers.look(container.id);
      return { id, addresses: await this.#linkNew(id) };
    });
  }

  /** Gives back the rows that a container or namespace has on this node; `network`: only those on it. Throws UserError. */
  detach(reference: string, network: string | null): Promise<void> {
    return this.#turns.run(async () => {
      const networkId = network === null ? undefined : this.#networkNamed(network);
      const rows = this.#rows
        .all()
        .filter(
          ({ attachment, links }) =>
            isMeant(attachment, reference) &&
            (networkId === undefined || links.some((link) => link.networkId === networkId)),
        );
      if (rows.length === 0) {
        const names = this.#rows.all().map(({ attachment }) => attachment.name);
        throw new UserError(404, `'${reference}' is not attached on this node${didYouMean(reference, names)}`);
      }
      if (networkId !== undefined) for (const row of rows) this.#requireAlone(row);
      for (const row of rows) {
        const container = this.#containers.get(row.attachment.subject);
        if (container !== undefined) await this.#options.detached.add(container);
        await this.#rows.remove(row);
      }
      await this.#options.relink();
    });
  }

  /** Costs what is attached here, and the containers that ask for it. Runs after each change of either, and each LOOK_MS. */
  async #reconcile(): Promise<void> {
    const { state, nodeId, relink } = this.#options;
    if (state() === undefined || nodeId() === undefined) return;
    for (const container of this.#containers.all) await this.#attachLabelled(container);
    await this.#forgetStopped();
    for (const row of this.#rows.all()) if (!(await this.#isThere(row))) await this.#giveBack(row);
    if (this.#containers.isCurrent && this.#options.isHeard() && !this.#arePruned) await this.#prune();
    const wanted = JSON.stringify([...this.sandboxes()]);
    if (wanted !== this.#linked) {
      await relink();
      this.#linked = wanted;
    }
    for (const row of this.#rows.all()) this.#observer.reportRunning(row);
  }

  async #attachLabelled(container: Container): Promise<void> {
    const { id, isRunning, labels } = container;
    const state = this.#options.state()!;
    if (!isRunning || !this.#isAskedOfThisNode(container, state) || this.#options.detached.has(container)) return;
    // When several agents share Docker's engine, another may have attached it.
    if (rowsOfSubject(state, id).length > 0) {
      if (!this.#rows.has(id)) await this.#namespaces.unbind(id);
      return this.#rejected.forget(id);
    }
    const judgedBy = versionsOf(state); // before the leader is asked: the tables change meanwhile
    if (!this.#rejected.isDue(container, judgedBy)) return;
    try {
      const spec = readLabels(labels);
      await this.#bind(container);
      await this.#rows.create({ subject: id, name: container.name, container }, spec);
      this.#rejected.forget(id);
    } catch (error) {
      this.#rejected.add(container, judgedBy, messageOf(error), error instanceof LabelError);
      if (!this.#rows.has(id)) await this.#namespaces.unbind(id);
    }
  }

  /** Returns false when it is gone for good. One that cannot be bound is logged, and does not keep the others waiting. */
  async #isThere(row: AttachedRow): Promise<boolean> {
    try {
      return await this.#observer.bind(row);
    } catch (error) {
      const fields = { endpoint: row.attachment.name, reason: messageOf(error) };
      this.#options.log.warn("an attached container cannot be bound; trying again", fields);
      return true;
    }
  }

  async #bind(container: Container): Promise<void> {
    requireOwnNamespace(container);
    await this.#namespaces.bindContainer(container);
  }

  /** Returns the addresses of a new row once they are linked, and removes the row when they cannot be. Throws UserError. */
  async #linkNew(id: string): Promise<string[]> {
    const row = this.#rows.all().find((candidate) => candidate.id === id);
    if (row === undefined) throw new UserError(503, "the new endpoint has not reached this node yet: try again");
    await this.#observer.bind(row);
    await this.#options.relink();
    const problem = this.#observer.problemOf(row);
    if (problem !== undefined) {
      await this.#rows.remove(row);
      throw new UserError(503, problem);
    }
    this.#observer.reportRunning(row);
    return row.links.map(({ address }) => address);
  }

  /** Gives back the row of a container or namespace that is no more. When no leader answers, the next look tries again. */
  async #giveBack(row: AttachedRow): Promise<void> {
    const { subject, name } = row.attachment;
    await this.#namespaces.unbind(subject);
    this.#observer.reportGone(row);
    await this.#rows.remove(row).catch((error: unknown) => {
      const fields = { endpoint: name, reason: messageOf(error) };
      this.#options.log.debug("the row of a removed container is not given back yet", fields);
    });
  }

  /** Removes the namespaces' names that an earlier agent left, once Docker's list and a leader have said which are wanted. */
  async #prune(): Promise<void> {
    const running = this.#containers.all.filter(({ isRunning }) => isRunning);
    await this.#namespaces.unbindOthers(new Set(running.map(({ id }) => id)));
    this.#arePruned = true;
  }

  async #forgetStopped(): Promise<void> {
    if (!this.#containers.isCurrent) return;
    const runs = (id: string): boolean => this.#containers.get(id)?.isRunning === true;
    this.#rejected.keepOnly(runs);
    this.#observer.keepOnly(runs);
    await this.#options.detached.keepOnly(runs);
  }

  #concerns({ kind, row, before }: AppliedChange): boolean {
    if (kind === "nodes" && before === undefined && row?.id === this.#options.nodeId()) return true; // it has just joined
    if (kind === "networks" || kind === "services" || kind === "nodes") return this.#rejected.size > 0;
    if (kind !== "tasks" && kind !== "endpoints") return false;
    return [row, before].some((either) => {
      if (either?.attachment == null) return false;
      return either.nodeId === this.#options.nodeId() || this.#containers.get(either.attachment.subject) !== undefined;
    });
  }

  /** A label that names a node that does not exist is rejected by every node. */
  #isAskedOfThisNode(container: Container, state: State): boolean {
    const asked = asksFor(container.labels);
    if (asked === undefined) return false;
    const { node } = asked;
    if (node === null || node === this.#options.nodeName) return true;
    const names = [...state.nodes.values()].map(({ name }) => name);
    if (names.includes(node)) this.#rejected.forget(container.id);
    else {
      const error = `label ${NODE_LABEL}: there is no node '${node}'${didYouMean(node, names)}`;
      this.#rejected.add(container, versionsOf(state), error, false);
    }
    return false;
  }

  /** Throws UserError for a task of a service with several networks: a task is on all of them. */
  #requireAlone({ attachment, links, service }: AttachedRow): void {
    if (links.length < 2) return;
    const names = links.map(({ networkId }) => `'${this.#options.state()?.networks.get(networkId)?.name}'`);
    const what = `'${attachment.name}' is a task of service '${service?.name}', which is on ${names.join(" and ")}`;
    throw new UserError(409, `${what}: it can only be detached from all, without --network`, { field: "network" });
  }

  #networkNamed(name: string): string {
    const state = this.#options.state();
    if (state === undefined) throw new UserError(503, "this node has no state of the cluster yet");
    return findByName("network", state.networks, name).id;
  }

  #lookLater(): void {
    this.#timer = this.#options.clock.after(LOOK_MS, () => {
      this.#lookLater();
      this.#containers.catchUp();
      this.changed();
    });
  }
}
