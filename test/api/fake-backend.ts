// A backend over a state that the test writes: commands are checked as the leader checks their form, kept, and
// carried out as far as the API can see it.

import { join } from "node:path";
import { Readable } from "node:stream";
import type { ExecutionContext } from "ava";
import type { Backend } from "../../src/api/backend.ts";
import type { ClusterBackend } from "../../src/api/cluster-routes.ts";
import type { ImportRequest, ImportView } from "../../src/api/cluster-schema.ts";
import type {
  AddUser,
  AuthorityView,
  CheckedInit,
  CheckedJoin,
  InitView,
  JoinTokenView,
  JoinView,
  RotateAuthority,
  UserCertificateView,
  UserView,
} from "../../src/api/membership-schema.ts";
import type {
  Attach,
  AttachedView,
  Detach,
  EndpointView,
  ExportedKeys,
  FlowFilter,
  FlowView,
  LeaveView,
  OpenSandbox,
  PeerView,
  SandboxView,
  StatsView,
} from "../../src/api/schema.ts";
import { serveApi, serveWaiting } from "../../src/api/server.ts";
import type { WaitingBackend } from "../../src/api/waiting-backend.ts";
import { DEFAULT_BALANCING } from "../../src/cluster/balancing.ts";
import { Command, type CommandInput, type CommandResult } from "../../src/cluster/commands.ts";
import type { Change, Network, Node, Service, Task, TaskStatus } from "../../src/cluster/schema.ts";
import { type AppliedChange, emptyState } from "../../src/cluster/state.ts";
import type { State } from "../../src/cluster/tables.ts";
import type { Role } from "../../src/cluster/trust-rows.ts";
import { check } from "../../src/lib/check.ts";
import { UserError } from "../../src/lib/errors.ts";
import { silentLog } from "../../src/lib/log.ts";
import { applyChanges } from "../fakes/apply-changes.ts";
import { temporaryDirectory } from "../temporary.ts";

/** An id that begins with a word. */
export function id(word: string): string {
  return word.padEnd(25, "x");
}

export function nodeRow(name: string, over: Partial<Node> = {}): Node {
  const number = Number(name.replace(/\D/g, ""));
  return {
    id: id(name),
    name,
    address: `192.0.2.${10 + number}`,
    vxlanPort: 4789,
    sealed: null,
    ingressAddress: `10.192.0.${1 + number}`,
    manager: number === 1,
    listen: null,
    advertise: null,
    role: number === 1 ? "manager" : "worker",
    keyDigest: null,
    certificateExpires: null,
    version: { protocol: 1, features: [] },
    mesh: true,
    availability: "active",
    state: "ready",
    health: "well",
    heldPorts: [],
    addresses: [`192.0.2.${10 + number}`],
    docker: true,
    createdAt: 0,
    ...over,
  };
}

export function networkRow(name: string, over: Partial<Network> = {}): Network {
  return {
    id: id(name),
    name,
    vni: 4096,
    subnet: "10.192.32.0/20",
    gateway: "10.192.32.1",
    internal: false,
    encrypted: false,
    createdAt: 0,
    ...over,
  };
}

export function serviceRow(name: string, over: Partial<Service> = {}): Service {
  return {
    id: id(name),
    name,
    workload: { runtime: "process", command: ["node", "server.js"], env: {}, workdir: null, stopGracePeriodMs: 10_000 },
    labels: {},
    replicas: 1,
    networks: [id("web")],
    aliases: {},
    dnsTtlSeconds: 5,
    endpointMode: "vip",
    vips: { [id("web")]: "10.192.32.2" },
    ports: [],
    meshVip: null,
    hostVip: null,
    ingressSourceNat: false,
    stopGraceMs: 10_000,
    balancing: DEFAULT_BALANCING,
    constraints: [],
    createdAt: 0,
    updatedAt: 0,
    ...over,
  };
}

export function taskRow(service: string, slot: number, node: string | null, over: Partial<Task> = {}): Task {
  return {
    id: id(`${service}${slot}t`),
    serviceId: id(service),
    slot,
    nodeId: node === null ? null : id(node),
    desired: "running",
    drain: null,
    addresses: { [id("web")]: `10.192.32.${10 + slot}` },
    attachment: null,
    error: null,
    createdAt: 0,
    ...over,
  };
}

export function statusRow(task: Task, state: TaskStatus["state"], over: Partial<TaskStatus> = {}): TaskStatus {
  const nothing = { error: null, exitCode: null, message: null, restarts: 0 };
  return { taskId: task.id, nodeId: task.nodeId!, state, since: 0, ...nothing, ...over };
}

export const put = {
  node: (row: Node): Change => ({ kind: "nodes", key: row.id, row }),
  network: (row: Network): Change => ({ kind: "networks", key: row.id, row }),
  service: (row: Service): Change => ({ kind: "services", key: row.id, row }),
  task: (row: Task): Change => ({ kind: "tasks", key: row.id, row }),
  status: (row: TaskStatus): Change => ({ kind: "statuses", key: row.taskId, row }),
};

export class FakeBackend implements Backend {
  readonly nodeName = "node1";
  readonly clusterId = id("cluster");
  role: Role = "manager";
  readonly commands: Command[] = [];
  /** Each call of joinToken: the role, and whether the token was rotated. */
  readonly tokensAsked: [role: Role, rotated: boolean][] = [];
  readonly usersAdded: AddUser[] = [];
  userViews: UserView[] = [];
  /** Nodes that have no new certificate yet. */
  waitsFor: string[] = [];
  /** Why a change of a CA does not go on without a person. */
  waitReason: string | null = null;
  readonly opened: OpenSandbox[] = [];
  readonly attached: Attach[] = [];
  readonly detached: Detach[] = [];
  readonly closed: string[] = [];
  /** Lines, by task id. */
  readonly logs = new Map<string, string[]>();
  /** How far tasks are, by their ids. */
  readonly preparations = new Map<string, string>();
  /** Answers every command. */
  refusal: Error | undefined;
  /** Why the barrier does not hold yet. */
  behind: string | undefined;
  connected = true;
  /** Where the state is from while it is not. */
  keptState: "kept" | "disk" = "kept";
  /** Why it is not connected. */
  problem = "192.0.2.11:2377: ECONNREFUSED";
  /** Why the leader does not hear that the node leaves. */
  unheard: string | null = null;
  /** Each call of leave: whether it was forced. */
  readonly left: boolean[] = [];
  /** Each call of turnLane. */
  readonly turned: boolean[] = [];
  /** The agent begins to leave. */
  whenLeft = () => {};
  peerViews: PeerView[] = [];
  /** The descriptors that keys were asked for by. */
  readonly keysAskedBy: number[] = [];
  #state: State;
  readonly #listeners = new Set<(changes: readonly AppliedChange[]) => void>();

  constructor(changes: Change[] = []) {
    this.#state = applyChanges(emptyState(), changes, 1);
  }

  /** The next snapshot. */
  change(...changes: Change[]): void {
    const before = this.#state;
    this.#state = applyChanges(before, changes, before.revision + 1);
    const applied = changes.map((change) => ({ ...change, before: before[change.kind].get(change.key) }));
    for (const listener of this.#listeners) listener(applied as AppliedChange[]);
  }

  get listeners(): number {
    return this.#listeners.size;
  }

  /** Resolves when a client listens. */
  async listened(): Promise<void> {
    while (this.#listeners.size === 0) await new Promise((resolve) => setImmediate(resolve));
  }

  onChanges(listener: (changes: readonly AppliedChange[]) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  state(): State {
    return this.#state;
  }

  leader() {
    return { name: "node1", connected: this.connected, problem: this.connected ? null : this.problem };
  }

  get stateSource() {
    return this.connected ? "leader" : this.keptState;
  }

  turnLane(isOn: boolean): void {
    if (isOn && this.refusal !== undefined) throw this.refusal;
    this.turned.push(isOn);
  }

  async leave(force: boolean): Promise<LeaveView> {
    if (!force && this.refusal !== undefined) throw this.refusal;
    this.left.push(force);
    setImmediate(this.whenLeft);
    return { unheard: this.unheard };
  }

  async execute(input: CommandInput): Promise<CommandResult> {
    if (this.refusal !== undefined) throw this.refusal;
    const command = check(Command, input);
    this.commands.push(command);
    return { id: this.#carryOut(command), revision: this.#state.revision };
  }

  #carryOut(command: Command): string {
    if (command.type === "network.create") {
      const row = networkRow(command.name, { internal: command.internal });
      this.change(put.network(row));
      return row.id;
    }
    if (command.type === "service.create") {
      const row = serviceRow(command.name, {
        workload: command.workload,
        replicas: command.replicas,
        ports: command.ports.map((port, i) => ({ ...port, published: port.published ?? 30_000 + i })),
      });
      this.change(put.service(row), ...this.#runTasks(row, command.replicas));
      return row.id;
    }
    if (command.type === "service.scale") {
      const row = [...this.#state.services.values()].find(({ name }) => name === command.name);
      if (row === undefined) throw new UserError(404, `no such service: ${command.name}`);
      this.change(put.service({ ...row, replicas: command.replicas }), ...this.#runTasks(row, command.replicas));
      return row.id;
    }
    if (command.type === "external.add" || command.type === "external.remove") return id(command.name ?? "external");
    if (command.type === "user.remove") return id(command.name);
    const known = [...this.#state.services.values(), ...this.#state.networks.values(), ...this.#state.nodes.values()];
    const named = "name" in command ? known.find(({ name }) => name === command.name) : undefined;
    if (named === undefined) throw new UserError(404, `no such thing: ${JSON.stringify(command)}`);
    return named.id;
  }

  #runTasks(service: Service, replicas: number): Change[] {
    const surplus = [...this.#state.tasks.values()].filter(({ slot }) => slot > replicas);
    const tasks = Array.from({ length: replicas }, (_, i) => taskRow(service.name, i + 1, "node1"));
    return [
      ...surplus.map((task) => put.task({ ...task, desired: "shutdown" })),
      ...tasks.flatMap((task) => [put.task(task), put.status(statusRow(task, "running", { since: Date.now() }))]),
    ];
  }

  async waitApplied(): Promise<void> {
    if (this.behind !== undefined) throw new UserError(503, this.behind);
  }

  async rejoin(): Promise<JoinView> {
    throw new UserError(409, `this node is a member of cluster ${this.clusterId} already`);
  }

  cluster(): ClusterBackend {
    const refuse = () => Promise.reject(new UserError(503, "no manager leads"));
    return { status: refuse, export: refuse, move: refuse, takeOver: refuse, recover: refuse };
  }

  async joinToken(role: Role, { rotate }: { rotate: boolean }): Promise<JoinTokenView> {
    if (this.refusal !== undefined) throw this.refusal;
    this.tokensAsked.push([role, rotate]);
    return { role, token: `ovl-1-${role}`, managers: ["192.0.2.11:2377", "192.0.2.12:2377"] };
  }

  async users(): Promise<UserView[]> {
    return this.userViews;
  }

  async addUser(request: AddUser): Promise<UserCertificateView> {
    if (this.refusal !== undefined) throw this.refusal;
    this.usersAdded.push(request);
    const user = { id: id(request.name), name: request.name, createdAt: 0, expires: 1 };
    const certificate = "-----BEGIN CERTIFICATE-----\nuser\n-----END CERTIFICATE-----\n";
    const ca = "-----BEGIN CERTIFICATE-----\nca\n-----END CERTIFICATE-----\n";
    return { ...user, cluster: this.clusterId, certificate, bundle: [ca], managers: ["192.0.2.11:2377"] };
  }

  async rotateAuthority({ authority }: RotateAuthority): Promise<AuthorityView[]> {
    if (this.refusal !== undefined) throw this.refusal;
    const asked = authority === undefined ? (["nodes", "store"] as const) : [authority];
    return asked.map((one) => ({
      authority: one,
      signer: `digest-${one}`,
      waitsFor: this.waitsFor,
      reason: this.waitReason,
    }));
  }

  async peers(): Promise<PeerView[]> {
    return this.peerViews;
  }

  exportKeys(_peer: string, descriptor: number): ExportedKeys {
    this.keysAskedBy.push(descriptor);
    const key = `${"ab".repeat(32)}01020304`;
    return {
      ports: [4500, 4501],
      associations: [{ source: "192.0.2.11", destination: "192.0.2.12", spi: 0x1000, key }],
    };
  }

  async stats(): Promise<StatsView> {
    return { datapath: { rxPackets: 7, txPackets: 0 }, drops: { NoRoute: 3 }, dns: { queries: 2 } };
  }

  async flows({ service }: FlowFilter): Promise<FlowView[]> {
    if (service === "none") return [];
    return [
      {
        protocol: "tcp",
        client: "10.192.32.9:40000",
        destination: "10.192.32.2:9200",
        target: "10.192.32.11:9200",
        service: "search",
        task: "search.1",
        node: "node2",
        state: "established",
        lane: "both",
        ageMs: 61_000,
        packets: 12,
        bytes: 3400,
      },
    ];
  }

  progress(taskIds: readonly string[]): ReadonlyMap<string, string> {
    return new Map([...this.preparations].filter(([id]) => taskIds.includes(id)));
  }

  async taskLog(task: string): Promise<Readable> {
    const lines = this.logs.get(task);
    if (lines === undefined) throw new UserError(404, `task ${task} has no log on this node`);
    return Readable.from([lines.map((line) => `${line}\n`).join("")]);
  }

  async openSandbox(request: OpenSandbox): Promise<SandboxView> {
    if (this.refusal !== undefined) throw this.refusal;
    this.opened.push(request);
    return { id: id("sandbox"), netns: "ovl-node1-sandbox", address: "10.192.32.77" };
  }

  async attach(request: Attach): Promise<AttachedView> {
    if (this.refusal !== undefined) throw this.refusal;
    this.attached.push(request);
    return { id: id("attached"), addresses: ["10.192.32.78"] };
  }

  async detach(request: Detach): Promise<void> {
    if (this.refusal !== undefined) throw this.refusal;
    this.detached.push(request);
  }

  refused(): EndpointView[] {
    const nothing = {
      id: null,
      network: null,
      address: null,
      vtep: null,
      mac: null,
      service: null,
      image: "app:1",
      node: "node1",
    };
    return [{ ...nothing, name: "app", kind: "refused", state: "rejected", error: "there is no network 'wbe'" }];
  }

  async closeSandbox(sandbox: string): Promise<void> {
    this.closed.push(sandbox);
  }
}

/** The agent of a node that is in no cluster. */
export class FakeWaiting implements WaitingBackend {
  readonly nodeName = "node1";
  problem: string | null = null;
  readonly inits: CheckedInit[] = [];
  readonly joins: CheckedJoin[] = [];
  readonly imports: string[] = [];
  refusal: Error | undefined;
  answers = 0;
  /** The agent begins to start its parts. */
  whenAnswered = () => {};

  async init(request: CheckedInit): Promise<InitView> {
    if (this.refusal !== undefined) throw this.refusal;
    this.inits.push(request);
    const made = { cluster: id("cluster"), nodeId: id("node1"), token: "ovl-1-worker", adopted: false };
    return { ...made, address: "192.0.2.11:2377" };
  }

  async importCluster({ path }: ImportRequest): Promise<ImportView> {
    if (this.refusal !== undefined) throw this.refusal;
    this.imports.push(path);
    return { cluster: id("cluster"), epoch: 2, revision: 7 };
  }

  async join(request: CheckedJoin): Promise<JoinView> {
    if (this.refusal !== undefined) throw this.refusal;
    this.joins.push(request);
    return { cluster: id("cluster"), nodeId: id("node1"), role: "worker" };
  }

  answered(): void {
    this.answers++;
    this.whenAnswered();
  }
}

/** Serves it on `socketPath` until the test ends, or the returned function is called. */
export async function servedWaiting(
  t: ExecutionContext,
  backend: WaitingBackend,
  socketPath: string,
): Promise<() => Promise<void>> {
  const server = await serveWaiting(backend, { socketPath, log: silentLog });
  let isOpen = true;
  const close = async () => {
    if (isOpen) await server.close();
    isOpen = false;
  };
  t.teardown(close);
  return close;
}

/** Serves the backend on a socket of its own until the test ends. Returns the socket's path. */
export async function served(t: ExecutionContext, backend: Backend): Promise<string> {
  return (await servedUntilClosed(t, backend)).path;
}

/** As `served`; `close` ends it before the test does. */
export async function servedUntilClosed(
  t: ExecutionContext,
  backend: Backend,
): Promise<{ path: string; close: () => Promise<void> }> {
  const path = join(temporaryDirectory("api"), "overlayd.sock");
  const server = await serveApi(backend, { socketPath: path, log: silentLog });
  let closing: Promise<void> | undefined;
  const close = () => (closing ??= server.close());
  t.teardown(close);
  return { path, close };
}
