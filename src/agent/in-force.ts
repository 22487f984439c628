// Puts snapshots in force on this node: data path and names at once, then links, mesh and tasks. Always the newest; what
// came meanwhile is skipped, for every part takes desired state and not events.

import { containerNaming, hostnameOf, type NodeNaming } from "../cluster/container-naming.ts";
import { type HeldPort, INGRESS_NETWORK, type Task } from "../cluster/schema.ts";
import type { State } from "../cluster/tables.ts";
import type { TableRows } from "../datapath/rows.ts";
import type { Clock, Timer } from "../lib/clock.ts";
import { messageOf } from "../lib/errors.ts";
import { cidr } from "../lib/ip.ts";
import type { Log } from "../lib/log.ts";
import { ReconcileLoop } from "../lib/reconcile-loop.ts";
import type { DesiredEndpoint, DesiredLinks } from "../links/desired.ts";
import type { Problems } from "../links/links.ts";
import type { LocalAddress } from "../links/local-addresses.ts";
import type { DesiredMesh } from "../mesh/mesh.ts";
import type { DesiredTask } from "../runtime/supervisor.ts";
import { stillTrue } from "../worker/still-true.ts";
import type { SessionAddress } from "./compile-denied.ts";
import { compileMesh } from "./compile-mesh.ts";
import { compileTables } from "./derived.ts";

/** Links and rules are watched; settings under /proc/sys, the node's addresses and ports of processes are not. */
const REFRESH_MS = 30_000;
/** While processes have published ports: one that ends gives its port to the mesh. */
const HELD_MS = 2000;
/** When the agent has heard no leader for this time, the snapshot on disk counts as what the cluster wants of flows. */
const UNHEARD_MS = 15_000;

export interface Sandbox {
  /** Its name under /run/netns. */
  netns: string;
  /** Of its links, in the order of its networks; left out: `eth0` and so on. */
  ifnames?: readonly string[];
}

export interface SyncParts {
  log: Log;
  clock: Clock;
  device: string;
  pool: string;
  mtu: number;
  /** Whether this node answers published ports. */
  meshOn: boolean;
  /** Whether containers reach what processes of this node serve. */
  nodeServices: boolean;
  /** Where this node finds managers. */
  managers(): readonly SessionAddress[];
  /** Links and addresses of an agent before are there: names are answered before they are looked at. */
  adoptsLinks: boolean;
  nodeId(): string | undefined;
  hostAddresses(): readonly LocalAddress[];
  /** Network namespaces of this node's containers, by the id of their task or endpoint. */
  sandboxes(): Promise<ReadonlyMap<string, Sandbox>>;
  dataPath: { replaceBy(rows: TableRows): Promise<void> };
  links: { apply(desired: DesiredLinks): Promise<Problems> };
  /** Answers which ports are left to processes of the node. */
  mesh: { apply(desired: DesiredMesh): Promise<HeldPort[]>; isThere(): Promise<boolean> };
  dns: { listen(addresses: readonly string[]): Promise<void> };
  /** As of now: the node's own resolv.conf may change. */
  naming(): NodeNaming;
  tasks: { apply(tasks: readonly DesiredTask[]): void; removeOthers(): void };
  observed(facts: { heldPorts?: HeldPort[]; addresses?: string[] }): void;
  /** `revision` is in force. */
  applied(revision: number): void;
}

export class Sync {
  readonly #parts: SyncParts;
  readonly #forwarding: ReconcileLoop;
  readonly #linking: ReconcileLoop;
  readonly #rest: ReconcileLoop;
  #state: State | undefined;
  #hasBegun = false;
  #isHeard = false;
  #isProvisional = true;
  readonly #unheard: Timer;
  /** That the data path has had in force. */
  #rows: TableRows = new Map();
  #problems: Problems = new Map();
  #heldPorts: HeldPort[] = [];
  #refresh: Timer | undefined;
  #heldCheck: Timer | undefined;

  constructor(parts: SyncParts) {
    this.#parts = parts;
    const failed = (error: unknown): void => {
      parts.log.error("the newest state is not in force on this node; trying again", { reason: messageOf(error) });
    };
    this.#forwarding = new ReconcileLoop(parts.clock, () => this.#forward(), failed);
    this.#linking = new ReconcileLoop(parts.clock, () => this.#link(), failed);
    this.#rest = new ReconcileLoop(parts.clock, () => this.#setUp(), failed);
    this.#unheard = parts.clock.after(UNHEARD_MS, () => {
      this.#isProvisional = false;
      this.#forwarding.ask();
      if (this.#hasBegun) this.#rest.ask();
    });
  }

  /**
   * A new snapshot, or news of this node's own tasks. `isHeard`: it is of a leader. One from disk may lack what was made
   * last: until a leader was heard, nothing that an agent before left in force is removed.
   */
  update(state: State, isHeard: boolean): void {
    this.#state = state;
    this.#isHeard = isHeard;
    if (isHeard) this.#isProvisional = false;
    this.#askAll();
  }

  /** Until this call only packets and names are looked after: what runs processes comes after. */
  begin(): void {
    this.#hasBegun = true;
    this.#askAll();
  }

  /** Resolves when packets and names are as the newest state says. */
  forwarded(): Promise<void> {
    return this.#forwarding.settled();
  }

  /** Links the sandboxes that there are now; resolves when it is done. */
  again(): Promise<void> {
    this.#linking.ask();
    return this.#linking.settled();
  }

  /** The node's own addresses are others than before. */
  addressesChanged(): void {
    this.#forwarding.ask();
    if (this.#hasBegun) this.#rest.ask();
  }

  /** Why an endpoint of this node could not be linked. */
  problemOf(address: string): string | undefined {
    return this.#problems.get(address);
  }

  async stop(): Promise<void> {
    this.#unheard.cancel();
    this.#refresh?.cancel();
    this.#heldCheck?.cancel();
    await Promise.all([this.#forwarding.stop(), this.#linking.stop(), this.#rest.stop()]);
  }

  /** What decides about packets and names: milliseconds. */
  async #forward(): Promise<void> {
    const { dataPath, dns, pool, mtu, meshOn, nodeServices, hostAddresses } = this.#parts;
    const nodeId = this.#parts.nodeId();
    if (this.#state === undefined || nodeId === undefined) return;
    const heldPorts = this.#heldPorts;
    const addresses = hostAddresses().map(({ address }) => address);
    this.#parts.observed({ addresses });
    const isProvisional = this.#isProvisional;
    const managers = this.#parts.managers();
    const own = { nodeId, pool, mtu, meshOn, nodeServices, managers, heldPorts, hostAddresses: addresses };
    const facts = { ...own, isProvisional };
    const rows = compileTables(this.#state, facts);
    try {
      await dataPath.replaceBy(rows);
    } catch (error) {
      await dataPath.replaceBy(stillTrue(this.#rows, rows)).catch(() => undefined); // the first reason is the one that tells
      throw error;
    }
    this.#rows = rows;
    if (!this.#hasBegun && this.#parts.adoptsLinks) await dns.listen(gatewaysOf(this.#state));
  }

  /** The kernel's links, routes and filters, and DNS on the gateways that they bring: it takes processes. */
  async #link(): Promise<void> {
    const nodeId = this.#parts.nodeId();
    const state = this.#state;
    const isHeard = this.#isHeard;
    if (state === undefined || nodeId === undefined) return;
    const desired = this.#desiredLinks(state, nodeId, isHeard, await this.#parts.sandboxes());
    this.#problems = await this.#parts.links.apply(desired);
    await this.#parts.dns.listen(desired.gateways);
  }

  /** Tasks, whom a mesh that fails does not keep from starting, and the mesh; then all of it is in force. */
  async #setUp(): Promise<void> {
    const { device, pool, meshOn, hostAddresses, mesh } = this.#parts;
    const nodeId = this.#parts.nodeId();
    const state = this.#state;
    if (state === undefined || nodeId === undefined) return;
    const { revision } = state; // it goes on while this waits
    this.#parts.tasks.apply(tasksOf(state, nodeId, this.#parts.naming()));
    if (this.#isHeard) this.#parts.tasks.removeOthers();
    const onLoopback = hostAddresses().filter((own) => own.onLoopback);
    const facts = { nodeId, device, pool, meshOn, loopbackAddresses: onLoopback.map(({ address }) => address) };
    // A snapshot from disk may lack the port that was published last: the table of the agent before has it.
    if (!this.#isProvisional || !(await mesh.isThere())) this.#leavePorts(await mesh.apply(compileMesh(state, facts)));
    await this.#linking.settled();
    await this.#forwarding.settled();
    this.#parts.applied(revision);
    this.#heldCheck?.cancel();
    if (this.#heldPorts.length > 0) this.#heldCheck = this.#parts.clock.after(HELD_MS, () => this.#rest.ask());
  }

  #askAll(): void {
    this.#forwarding.ask();
    if (!this.#hasBegun) return;
    this.#linking.ask();
    this.#rest.ask();
    this.#refresh?.cancel();
    this.#refresh = this.#parts.clock.after(REFRESH_MS, () => this.#askAll());
  }

  #desiredLinks(state: State, nodeId: string, isHeard: boolean, sandboxes: ReadonlyMap<string, Sandbox>): DesiredLinks {
    const endpoints: DesiredEndpoint[] = [];
    const own: string[] = [];
    const add = (id: string, networkId: string, address: string, index: number): void => {
      own.push(address);
      const sandbox = sandboxes.get(id);
      const network = state.networks.get(networkId);
      if (sandbox === undefined || network === undefined) return;
      const { netns, ifnames } = sandbox;
      endpoints.push({ address, subnet: cidr(network.subnet), netns, ifname: ifnames?.[index] ?? `eth${index}` });
    };
    for (const task of state.tasks.values()) {
      if (task.nodeId !== nodeId) continue;
      for (const [i, networkId] of networksOf(state, task).entries())
        add(task.id, networkId, task.addresses[networkId]!, i);
    }
    for (const endpoint of state.endpoints.values()) {
      if (endpoint.nodeId === nodeId) add(endpoint.id, endpoint.networkId, endpoint.address, 0);
    }
    return {
      device: this.#parts.device,
      mtu: this.#parts.mtu,
      pool: cidr(this.#parts.pool),
      ingressAddress: state.nodes.get(nodeId)?.ingressAddress ?? null,
      gateways: gatewaysOf(state),
      endpoints,
      held: isHeard ? own : "all",
    };
  }

  /** To processes of this node. */
  #leavePorts(ports: HeldPort[]): void {
    if (JSON.stringify(ports) === JSON.stringify(this.#heldPorts)) return;
    this.#heldPorts = ports;
    this.#parts.observed({ heldPorts: ports });
    this.#forwarding.ask();
  }
}

function gatewaysOf({ networks }: State): string[] {
  const own = [...networks.values()].filter(({ name }) => name !== INGRESS_NETWORK);
  return own.map(({ gateway }) => gateway);
}

/** A task's networks in the order of its service: the first has the default route. */
function networksOf(state: State, task: Task): string[] {
  const order = state.services.get(task.serviceId)?.networks ?? Object.keys(task.addresses);
  return order.filter((networkId) => task.addresses[networkId] !== undefined);
}

function tasksOf(state: State, nodeId: string, naming: NodeNaming): DesiredTask[] {
  const tasks: DesiredTask[] = [];
  for (const task of state.tasks.values()) {
    const service = state.services.get(task.serviceId);
    if (task.nodeId !== nodeId || task.attachment !== null) continue;
    const [first = ""] = networksOf(state, task);
    const networks = networksOf(state, task).flatMap((id) => state.networks.get(id) ?? []);
    const hostname = service === undefined ? null : hostnameOf(service, task, state.nodes.get(nodeId));
    tasks.push({
      id: task.id,
      name: `${service?.name ?? "?"}.${task.slot}`,
      // Of a service that was removed: the task is only to be stopped.
      workload: service?.workload ?? null,
      address: task.addresses[first] ?? null,
      naming: containerNaming(service?.workload?.naming, hostname, networks, naming),
      ports: service?.ports.filter(({ protocol }) => protocol === "tcp").map(({ target }) => target) ?? [],
      desired: service === undefined ? "shutdown" : task.desired,
    });
  }
  return tasks;
}
