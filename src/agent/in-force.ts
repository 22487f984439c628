// Puts the state in force on this node: data path and names at once, then links, the mesh and tasks. A change says which
// units of the tables and which parts of the node it concerns; these are made what the newest state says, and no others are
// looked at. What the node observes of itself, and what other programs undo, is looked at from time to time.
import { isDeepStrictEqual } from "node:util";
import type { NodeNaming } from "../cluster/container-naming.ts";
import type { HeldPort } from "../cluster/schema.ts";
import type { AppliedChange } from "../cluster/state.ts";
import type { State } from "../cluster/tables.ts";
import type { TableDiff } from "../datapath/rows.ts";
import type { Clock, Timer } from "../lib/clock.ts";
import { messageOf } from "../lib/errors.ts";
import type { Log } from "../lib/log.ts";
import { ReconcileLoop } from "../lib/reconcile-loop.ts";
import type { DesiredLinks } from "../links/desired.ts";
import type { Problems } from "../links/links.ts";
import type { LocalAddress } from "../links/local-addresses.ts";
import type { DesiredMesh } from "../mesh/mesh.ts";
import type { DesiredTask } from "../runtime/supervisor.ts";
import type { SessionAddress } from "./compile-denied.ts";
import { compileLinks, gatewaysOf, type Sandbox } from "./compile-links.ts";
import { compileMesh } from "./compile-mesh.ts";
import type { Viewpoint } from "./compile-tables.ts";
import { compileTasks } from "./compile-tasks.ts";
import { addConcerns, type Concern } from "./concerns.ts";
import { Derived } from "./derived.ts";
import type { Published } from "./lane-entrances.ts";
import { StorePeers } from "./store-peers.ts";
import { addUnits, type DirtyUnits, type Unit } from "./units.ts";

/** Links and rules are watched; settings under /proc/sys and the node's own resolv.conf are not. */
const REFRESH_MS = 30_000;
/** While processes have published ports: one that ends gives its port to the mesh. */
const HELD_MS = 2000;
/** When the agent has heard no leader for this time, the state on disk counts as what the cluster wants of flows. */
const UNHEARD_MS = 15_000;

export interface InForceOptions {
  log: Log;
  clock: Clock;
  nodeState: {
    readonly state: State;
    subscribe(listener: (changes: readonly AppliedChange[]) => void): () => void;
  };
  nodeId(): string | undefined;
  /**
   * Whether the state is a leader's. One from disk may lack what was made last: until a leader was heard, nothing that an
   * agent before left in force is removed.
   */
  isHeard(): boolean;
  device: string;
  pool: string;
  mtu: number;
  /** Whether this node answers published ports. */
  meshOn: boolean;
  /** Whether managers run their store themselves; an etcd that was there before is its operator's to guard. */
  runsStore: boolean;
  /** Whether containers reach what processes of this node serve. */
  nodeServices: boolean;
  /** Where this node finds managers. */
  managers(): readonly SessionAddress[];
  /** Whether links and addresses of an agent before are there: names are answered before they are looked at. */
  adoptsLinks: boolean;
  hostAddresses(): readonly LocalAddress[];
  dataPath: { apply(diff: TableDiff): Promise<void> };
  links: { apply(desired: DesiredLinks, options: { look: boolean }): Promise<Problems> };
  /** Answers which ports are left to processes of the node. */
  mesh: {
    apply(desired: DesiredMesh, options: { look: boolean }): Promise<readonly HeldPort[]>;
    isThere(): Promise<boolean>;
  };
  /** Leads clients of published ports past nftables, where it can. */
  lane: { publish(published: Published): void };
  dns: { listen(addresses: readonly string[]): Promise<void> };
  /** The node's naming now: its own resolv.conf may change. */
  naming(): NodeNaming;
  observed(facts: { heldPorts?: HeldPort[]; addresses?: string[] }): void;
  /** `revision` is in force. */
  applied(revision: number): void;
}

/** What is made of the state by processes. */
export interface NodeContainers {
  tasks: { apply(tasks: readonly DesiredTask[]): void; removeOthers(): void };
  /** Network namespaces of this node's containers, by the id of their task or endpoint. */
  sandboxes(): Promise<ReadonlyMap<string, Sandbox>>;
}

/** What the data path may be asked to look at: units, and whether the node observes itself otherwise than before. */
type TableWork = Unit | "all" | "viewpoint";
/** `look`: at what is there, though nothing else is wanted than before. */
type NodeWork = Concern | "look";

export class InForce {
  readonly #options: InForceOptions;
  readonly #forwarding: ReconcileLoop<TableWork>;
  readonly #linking: ReconcileLoop<NodeWork>;
  /** Mesh and tasks. */
  readonly #serving: ReconcileLoop<NodeWork>;
  readonly #telling: ReconcileLoop;
  readonly #derived = new Derived();
  readonly #storePeers: StorePeers;
  #viewpoint: Viewpoint | undefined;
  /** undefined: only packets and names are looked after. */
  #containers: NodeContainers | undefined;
  /** The node for which and as which it was looked at last. */
  #nodeId: string | undefined;
  #isHeard = false;
  #isProvisional = true;
  readonly #unheard: Timer;
  #problems: Problems = new Map();
  #heldPorts: readonly HeldPort[] = [];
  #refresh: Timer | undefined;
  #heldCheck: Timer | undefined;
  #unsubscribe: (() => void) | undefined;
  /** What the changes of this turn of the event loop concern, which is asked for once for all of them. */
  readonly #dirty: DirtyUnits = new Set();
  readonly #concerns = new Set<Concern>();
  #isAsking: NodeJS.Immediate | undefined;

  constructor(options: InForceOptions) {
    const { clock, log } = options;
    this.#options = options;
    this.#storePeers = new StorePeers(clock);
    const failed = (error: unknown): void => {
      log.error("the newest state is not in force on this node; trying again", { reason: messageOf(error) });
    };
    this.#forwarding = new ReconcileLoop(clock, (dirty) => this.#forward(dirty), failed);
    this.#linking = new ReconcileLoop(clock, (work) => this.#link(work), failed);
    this.#serving = new ReconcileLoop(clock, (work) => this.#serve(work), failed);
    this.#telling = new ReconcileLoop(clock, () => this.#tell(), failed);
    this.#unheard = clock.after(UNHEARD_MS, () => this.#endProvisional());
  }

  /** From now on packets and names are as the state says, and stay so. */
  start(): void {
    this.#unsubscribe = this.#options.nodeState.subscribe((changes) => this.#changed(changes));
    this.#changed([]);
  }

  /** Until this call only packets and names are looked after: what runs processes comes after. */
  begin(containers: NodeContainers): void {
    this.#containers = containers;
    this.#askAll();
    this.#refreshLater();
  }

  /** Resolves when packets and names are as the newest state says. */
  forwarded(): Promise<void> {
    this.#askTouched();
    return this.#forwarding.settled();
  }

  /** Links the sandboxes that there are now; resolves when it is done. */
  again(): Promise<void> {
    this.#linking.ask(["look"]);
    return this.#linking.settled();
  }

  /** The node's own addresses, or those of the managers, are others than before. */
  viewpointChanged(): void {
    this.#forwarding.ask(["viewpoint"]);
    if (this.#containers !== undefined) this.#serving.ask(["mesh"]);
  }

  /** Why an endpoint of this node could not be linked. */
  problemOf(address: string): string | undefined {
    return this.#problems.get(address);
  }

  async stop(): Promise<void> {
    this.#unsubscribe?.();
    clearImmediate(this.#isAsking);
    this.#unheard.cancel();
    this.#refresh?.cancel();
    this.#heldCheck?.cancel();
    const loops = [this.#forwarding, this.#linking, this.#serving, this.#telling];
    await Promise.all(loops.map((loop) => loop.stop()));
  }

  #changed(changes: readonly AppliedChange[]): void {
    const { nodeState, nodeId: ownId, isHeard } = this.#options;
    const nodeId = ownId();
    if (nodeId === undefined) return;
    const isFirst = nodeId !== this.#nodeId || isHeard() !== this.#isHeard;
    this.#nodeId = nodeId;
    this.#isHeard = isHeard();
    if (this.#isHeard) this.#isProvisional = false;
    if (isFirst) this.#askAll();
    for (const change of changes) {
      addUnits(this.#dirty, nodeState.state, change, nodeId);
      addConcerns(this.#concerns, nodeState.state, change, nodeId);
    }
    this.#isAsking ??= setImmediate(() => this.#askTouched());
  }

  #askTouched(): void {
    if (this.#isAsking === undefined) return;
    clearImmediate(this.#isAsking);
    this.#isAsking = undefined;
    if (this.#dirty.size > 0) this.#forwarding.ask(this.#dirty);
    const concerns = new Set(this.#concerns);
    this.#dirty.clear();
    this.#concerns.clear();
    if (this.#containers === undefined) return;
    if (concerns.has("links")) this.#linking.ask(["links"]);
    const served = (["mesh", "tasks"] as const).filter((concern) => concerns.has(concern));
    if (served.length > 0) this.#serving.ask(served);
    this.#telling.ask();
  }

  #askAll(): void {
    this.#forwarding.ask(["viewpoint"]);
    if (this.#containers === undefined) return;
    this.#linking.ask(["links", "look"]);
    this.#serving.ask(["mesh", "tasks", "look"]);
    this.#telling.ask();
  }

  #refreshLater(): void {
    this.#refresh = this.#options.clock.after(REFRESH_MS, () => {
      this.#forwarding.refresh(["viewpoint"]);
      this.#linking.refresh(["links", "look"]);
      this.#serving.refresh(["mesh", "tasks", "look"]);
      this.#refreshLater();
    });
  }

  #endProvisional(): void {
    if (!this.#isProvisional) return;
    this.#isProvisional = false;
    this.viewpointChanged();
  }

  /** What decides about packets and names: milliseconds at most, and no process. */
  async #forward(dirty: Set<TableWork>): Promise<void> {
    const { dataPath, dns, nodeState, adoptsLinks } = this.#options;
    const { state } = nodeState;
    if (this.#nodeId === undefined) return;
    if (dirty.has("viewpoint") && this.#lookAround(this.#nodeId)) dirty.add("all");
    dirty.delete("viewpoint");
    await dataPath.apply(this.#derived.update(state, this.#viewpoint!, dirty as DirtyUnits));
    if (this.#containers === undefined && adoptsLinks) await dns.listen(gatewaysOf(state));
  }

  /** Takes what the node knows of itself. Returns whether it differs from what it was. */
  #lookAround(nodeId: string): boolean {
    const { pool, mtu, meshOn, nodeServices } = this.#options;
    const hostAddresses = this.#options.hostAddresses().map(({ address }) => address);
    const [heldPorts, isProvisional] = [this.#heldPorts, this.#isProvisional];
    const managers = this.#options.managers();
    const viewpoint = { nodeId, pool, mtu, meshOn, nodeServices, managers, heldPorts, hostAddresses, isProvisional };
    if (isDeepStrictEqual(viewpoint, this.#viewpoint)) return false;
    this.#viewpoint = viewpoint;
    this.#options.observed({ addresses: hostAddresses });
    return true;
  }

  /** The kernel's links, routes and filters, and DNS on the gateways that they bring: it takes processes. */
  async #link(work: ReadonlySet<NodeWork>): Promise<void> {
    const { nodeState, device, pool, mtu, links, dns } = this.#options;
    const sandboxes = await this.#containers!.sandboxes();
    const [nodeId, isHeard] = [this.#nodeId, this.#isHeard];
    if (nodeId === undefined) return;
    const desired = compileLinks(nodeState.state, { nodeId, device, pool, mtu, isHeard, sandboxes });
    this.#problems = await links.apply(desired, { look: work.has("look") });
    await dns.listen(desired.gateways);
  }

  /** Tasks, which a mesh that fails does not keep from starting, and the mesh. */
  async #serve(work: ReadonlySet<NodeWork>): Promise<void> {
    const { nodeState, naming } = this.#options;
    const { tasks } = this.#containers!;
    const [nodeId, isHeard] = [this.#nodeId, this.#isHeard];
    if (nodeId === undefined) return;
    if (work.has("tasks")) tasks.apply(compileTasks(nodeState.state, nodeId, naming()));
    if (work.has("tasks") && isHeard) tasks.removeOthers();
    if (work.has("mesh")) await this.#enter(nodeId, work.has("look"));
  }

  /** The entrance for clients from outside. */
  async #enter(nodeId: string, look: boolean): Promise<void> {
    const { nodeState, device, pool, meshOn, runsStore, hostAddresses, mesh, lane, clock } = this.#options;
    // A state from disk may lack the port that was published last: the table of the agent before has it.
    if (this.#isProvisional && (await mesh.isThere())) return;
    const onLoopback = hostAddresses().filter((own) => own.onLoopback);
    const loopbackAddresses = onLoopback.map(({ address }) => address);
    const { state } = nodeState;
    const storePeers = runsStore ? this.#storePeers.addresses(state, nodeId) : null;
    const desired = compileMesh(state, { nodeId, device, pool, meshOn, storePeers, loopbackAddresses });
    const held = await mesh.apply(desired, { look });
    lane.publish({ ports: desired.ports, held, addresses: hostAddresses().map(({ address }) => address) });
    this.#leavePorts(held);
    this.#heldCheck?.cancel();
    if (this.#heldPorts.length === 0) return;
    this.#heldCheck = clock.after(HELD_MS, () => this.#serving.refresh(["mesh", "look"]));
  }

  /** Leaves the ports to processes of this node. */
  #leavePorts(ports: readonly HeldPort[]): void {
    if (isDeepStrictEqual(ports, this.#heldPorts)) return;
    this.#heldPorts = ports;
    this.#options.observed({ heldPorts: [...ports] });
    this.#forwarding.ask(["viewpoint"]);
  }

  /** The revision is taken first: what waits here may see the state go on. */
  async #tell(): Promise<void> {
    this.#askTouched(); // what it touched is asked for before
    const { revision } = this.#options.nodeState.state;
    await Promise.all([this.#forwarding, this.#linking, this.#serving].map((loop) => loop.settled()));
    await this.#forwarding.settled(); // the mesh may have left ports to processes
    this.#options.applied(revision);
  }
}
