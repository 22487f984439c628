// Attaches what exists: containers that ask for it by their labels, and what a person names. Level-triggered: compares the
// engine's containers with the rows of the state, asks the leader for what is missing, gives back what is gone.
import type { CommandInput, CommandResult } from "../cluster/commands.ts";
import { Alias, type State, type TaskStatus } from "../cluster/schema.ts";
import type { Clock, Timer } from "../lib/clock.ts";
import { messageOf, UserError } from "../lib/errors.ts";
import type { Log } from "../lib/log.ts";
import { didYouMean } from "../lib/nearest.ts";
import { ReconcileLoop } from "../lib/reconcile-loop.ts";
import { ContainerList } from "../runtime/container-list.ts";
import { NODE_LABEL } from "../runtime/container-options.ts";
import type { Container, DockerEngine } from "../runtime/docker-engine.ts";
import type { DockerWatch } from "../runtime/docker-watch.ts";
import type { LetGo } from "./detached.ts";
import { findContainer, isMeant } from "./find-container.ts";
import { type AttachmentSpec, asksFor, LabelError, readLabels } from "./labels.ts";
import type { Namespaces } from "./namespaces.ts";
import { AttachmentObserver } from "./observer.ts";
import { type Refusal, Refusals, versionsOf } from "./rejected.ts";
import { type AttachedRow, attachedRows, NETNS } from "./rows.ts";

/** Namespaces have no events, and what was refused or could not be looked at is tried again. */
const LOOK_MS = 5000;
const COMPOSE_SERVICE = "com.docker.compose.service";

export interface AttachmentsParts {
  nodeName: string;
  /** The domain of every name of the overlay. */
  domain: string;
  log: Log;
  clock: Clock;
  engine: Pick<DockerEngine, "container" | "containers">;
  watch: Pick<DockerWatch, "isUp" | "listen">;
  namespaces: Namespaces;
  letGo: LetGo;
  state(): State | undefined;
  /** Whether the state is a leader's; one from disk may lack what was attached last. */
  isHeard(): boolean;
  nodeId(): string | undefined;
  execute(command: CommandInput): Promise<CommandResult>;
  /** Links what there is to link; resolves when it is done. */
  relink(): Promise<void>;
  problemOf(address: string): string | undefined;
  report(status: TaskStatus): void;
}

export class Attachments {
  readonly #parts: AttachmentsParts;
  readonly #containers: ContainerList;
  readonly #namespaces: Namespaces;
  readonly #observer: AttachmentObserver;
  readonly #refusals: Refusals;
  readonly #reconciling: ReconcileLoop;
  #turn: Promise<unknown> = Promise.resolve();
  #timer: Timer | undefined;
  /** The links that were made last. */
  #linked = "";
  #arePruned = false;

  constructor(parts: AttachmentsParts) {
    const { clock, log, engine, watch } = parts;
    const changed = () => this.changed();
    this.#parts = parts;
    this.#namespaces = parts.namespaces;
    this.#refusals = new Refusals({ clock, log });
    this.#reconciling = new ReconcileLoop(
      clock,
      () => this.#inTurn(() => this.#reconcile()),
      (error) => log.error("containers are not attached as they should be; trying again", { reason: messageOf(error) }),
    );
    const matters = (id: string, labels: Container["labels"]) => asksFor(labels) !== undefined || this.#isAttached(id);
    this.#containers = new ContainerList({ engine, watch, log, matters, changed });
    const { domain, state, nodeId, problemOf, report } = parts;
    const [containers, namespaces] = [this.#containers, this.#namespaces];
    this.#observer = new AttachmentObserver(
      { clock, domain, containers, namespaces, state, nodeId, problemOf, report },
      changed,
    );
    this.#lookLater();
  }

  async stop(): Promise<void> {
    this.#timer?.cancel();
    await this.#containers.close();
    await this.#reconciling.stop();
    await this.#turn;
  }

  /** The state or a container changed. */
  changed(): void {
    this.#reconciling.ask();
  }

  /** Containers of this node that ask to be attached and are not. */
  get refused(): readonly Refusal[] {
    return this.#refusals.all();
  }

  /** Where the links of rows go, by their ids. */
  sandboxes(): Map<string, { netns: string; ifnames: string[] }> {
    const sandboxes = new Map<string, { netns: string; ifnames: string[] }>();
    const all = this.#rows();
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
    return this.#inTurn(async () => {
      const container = await findContainer(reference, this.#parts);
      const subject = container?.id ?? NETNS + reference;
      if (container === undefined) await this.#namespaces.bindNamespace(subject);
      else await this.#bind(container);
      await this.#namespaces.lookAgain(subject);
      const id = await this.#ask(subject, container, reference, spec).catch(async (error: unknown) => {
        if (!this.#isAttached(subject)) await this.#namespaces.unbind(subject);
        throw error;
      });
      if (container !== undefined) await this.#containers.look(container.id);
      return { id, addresses: await this.#linkNew(id) };
    });
  }

  /** Gives back what a container or namespace has on this node; `network`: only on that. Throws UserError. */
  detach(reference: string, network: string | null): Promise<void> {
    return this.#inTurn(async () => {
      const networkId = network === null ? undefined : this.#networkNamed(network);
      const rows = this.#rows().filter(
        ({ attachment, links }) =>
          isMeant(attachment, reference) &&
          (networkId === undefined || links.some((link) => link.networkId === networkId)),
      );
      if (rows.length === 0) {
        const names = this.#rows().map(({ attachment }) => attachment.name);
        throw new UserError(404, `'${reference}' is not attached on this node${didYouMean(reference, names)}`);
      }
      if (networkId !== undefined) for (const row of rows) this.#requireAlone(row);
      for (const row of rows) {
        const container = this.#containers.get(row.attachment.subject);
        if (container !== undefined) await this.#parts.letGo.add(container);
        await this.#detach(row);
      }
      await this.#parts.relink();
    });
  }

  async #reconcile(): Promise<void> {
    const { state, nodeId, relink } = this.#parts;
    if (state() === undefined || nodeId() === undefined) return;
    for (const container of this.#containers.all) await this.#attachLabelled(container);
    await this.#forgetStopped();
    for (const row of this.#rows()) if (!(await this.#isThere(row))) await this.#giveBack(row);
    if (this.#containers.isCurrent && this.#parts.isHeard() && !this.#arePruned) await this.#prune();
    const wanted = JSON.stringify([...this.sandboxes()]);
    if (wanted !== this.#linked) {
      await relink();
      this.#linked = wanted;
    }
    for (const row of this.#rows()) this.#observer.reportRunning(row);
  }

  async #attachLabelled(container: Container): Promise<void> {
    const { id, isRunning, labels } = container;
    const state = this.#parts.state()!;
    if (!isRunning || !this.#isAskedOfThisNode(container, state) || this.#parts.letGo.has(container)) return;
    // Of several agents that share the engine, another may have it.
    if (attachedRows(state).some(({ attachment }) => attachment.subject === id)) {
      if (!this.#isAttached(id)) await this.#namespaces.unbind(id);
      return this.#refusals.forget(id);
    }
    const judgedBy = versionsOf(state);
    if (!this.#refusals.isDue(container, judgedBy)) return;
    try {
      const spec = readLabels(labels);
      await this.#bind(container);
      await this.#ask(id, container, container.name, spec);
      this.#refusals.forget(id);
    } catch (error) {
      this.#refusals.add(container, judgedBy, messageOf(error), error instanceof LabelError);
      if (!this.#isAttached(id)) await this.#namespaces.unbind(id);
    }
  }

  /** False when it is gone for good. What cannot be bound is told, and keeps no other from it. */
  async #isThere(row: AttachedRow): Promise<boolean> {
    try {
      return await this.#observer.bind(row);
    } catch (error) {
      const fields = { endpoint: row.attachment.name, reason: messageOf(error) };
      this.#parts.log.warn("an attached container cannot be bound; trying again", fields);
      return true;
    }
  }

  /** Throws UserError when it has no network namespace that is its own. */
  async #bind(container: Container): Promise<void> {
    const { name, networkMode } = container;
    if (networkMode === "host") {
      throw new UserError(400, `container '${name}' has its host's network; start it with --network none`);
    }
    if (networkMode.startsWith("container:")) {
      throw new UserError(400, `container '${name}' shares the network of another, which can be attached instead`);
    }
    await this.#namespaces.bindContainer(container);
  }

  /** The id of the row that it has now. Throws UserError. */
  async #ask(subject: string, container: Container | undefined, name: string, spec: AttachmentSpec): Promise<string> {
    const { execute, nodeId } = this.#parts;
    const node = nodeId();
    if (node === undefined) throw new UserError(503, "this node is not part of a cluster yet");
    const { address, ...rest } = spec;
    const command: CommandInput = {
      type: "attach",
      node,
      subject,
      subjectName: container?.name ?? name,
      image: container?.image ?? null,
      hostNames: hostNamesOf(container, name),
      ...rest,
      ...(address === null ? {} : { address }),
    };
    return (await execute(command)).id;
  }

  /** The addresses of a new row, once they are linked; takes it back when that cannot be. Throws UserError. */
  async #linkNew(id: string): Promise<string[]> {
    const row = this.#rows().find((candidate) => candidate.id === id);
    if (row === undefined) throw new UserError(503, "the new endpoint has not reached this node yet: try again");
    await this.#observer.bind(row);
    await this.#parts.relink();
    const problem = this.#observer.problemOf(row);
    if (problem !== undefined) {
      await this.#detach(row);
      throw new UserError(503, problem);
    }
    this.#observer.reportRunning(row);
    return row.links.map(({ address }) => address);
  }

  /** The container or namespace is no more. When no leader answers, the next look tries again. */
  async #giveBack(row: AttachedRow): Promise<void> {
    const { subject, name } = row.attachment;
    await this.#namespaces.unbind(subject);
    this.#observer.reportGone(row);
    await this.#detach(row).catch((error: unknown) => {
      const fields = { endpoint: name, reason: messageOf(error) };
      this.#parts.log.debug("what a removed container had is not given back yet", fields);
    });
  }

  async #detach({ id, attachment: { subject } }: AttachedRow): Promise<void> {
    await this.#parts.execute({ type: "detach", id });
    if (!this.#isAttached(subject)) await this.#namespaces.unbind(subject);
  }

  /** Removes names that an earlier agent left. Both that could want one have been heard: the engine's list, and a leader. */
  async #prune(): Promise<void> {
    const running = this.#containers.all.filter(({ isRunning }) => isRunning);
    await this.#namespaces.unbindOthers(new Set(running.map(({ id }) => id)));
    this.#arePruned = true;
  }

  async #forgetStopped(): Promise<void> {
    if (!this.#containers.isCurrent) return;
    const runs = (id: string): boolean => this.#containers.get(id)?.isRunning === true;
    this.#refusals.keepOnly(runs);
    this.#observer.keepOnly(runs);
    await this.#parts.letGo.keepOnly(runs);
  }

  /** Of this node. */
  #rows(): AttachedRow[] {
    const [state, nodeId] = [this.#parts.state(), this.#parts.nodeId()];
    return state === undefined || nodeId === undefined ? [] : attachedRows(state, nodeId);
  }

  #isAttached(subject: string): boolean {
    return this.#rows().some(({ attachment }) => attachment.subject === subject);
  }

  /** What asks for a node that there is not is every node's to refuse. */
  #isAskedOfThisNode(container: Container, state: State): boolean {
    const asked = asksFor(container.labels);
    if (asked === undefined) return false;
    const { node } = asked;
    if (node === null || node === this.#parts.nodeName) return true;
    const names = [...state.nodes.values()].map(({ name }) => name);
    if (names.includes(node)) this.#refusals.forget(container.id);
    else {
      const error = `label ${NODE_LABEL}: there is no node '${node}'${didYouMean(node, names)}`;
      this.#refusals.add(container, versionsOf(state), error, false);
    }
    return false;
  }

  /** Of a service with several networks a task is on all of them. Throws UserError. */
  #requireAlone({ attachment, links, service }: AttachedRow): void {
    if (links.length < 2) return;
    const names = links.map(({ networkId }) => `'${this.#parts.state()?.networks.get(networkId)?.name}'`).join(" and ");
    const what = `'${attachment.name}' is a task of service '${service?.name}', which is on ${names}`;
    throw new UserError(409, `${what}: it can only be detached from all, without --network`, { field: "network" });
  }

  #networkNamed(name: string): string {
    const networks = [...(this.#parts.state()?.networks.values() ?? [])];
    const network = networks.find((candidate) => candidate.name === name || candidate.id === name);
    if (network !== undefined) return network.id;
    const names = networks.map((candidate) => candidate.name);
    throw new UserError(404, `no such network: ${name}${didYouMean(name, names)}`);
  }

  #lookLater(): void {
    this.#timer = this.#parts.clock.after(LOOK_MS, () => {
      this.#lookLater();
      this.#containers.catchUp();
      this.changed();
    });
  }

  #inTurn<T>(work: () => Promise<T>): Promise<T> {
    const result = this.#turn.then(work);
    this.#turn = result.catch(() => {});
    return result;
  }
}

/** What Docker's own networks would call it: its name, Compose's service, and the beginning of its id. */
function hostNamesOf(container: Container | undefined, name: string): string[] {
  const names =
    container === undefined
      ? [name]
      : [container.name, container.labels[COMPOSE_SERVICE] ?? "", container.id.slice(0, 12)];
  return names.filter((candidate) => Alias.safeParse(candidate).success);
}
