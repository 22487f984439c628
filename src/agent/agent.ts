// The agent: its parts, wired, in the order in which they start and stop.
import { mkdir } from "node:fs/promises";
import { availableParallelism } from "node:os";
import { join } from "node:path";
import { serveApi } from "../api/server.ts";
import { DamagedStoreError, openEmbeddedStore } from "../cluster/embedded-store.ts";
import { Leader } from "../cluster/leader.ts";
import type { State } from "../cluster/schema.ts";
import { Session } from "../cluster/session.ts";
import { serveSessions } from "../cluster/session-server.ts";
import { emptyState } from "../cluster/state.ts";
import { compileNames } from "../dns/compile-names.ts";
import { DnsServer } from "../dns/server.ts";
import { type Clock, systemClock } from "../lib/clock.ts";
import { messageOf } from "../lib/errors.ts";
import { cidr, type Ipv4 } from "../lib/ip.ts";
import type { Log } from "../lib/log.ts";
import { newId } from "../lib/random.ts";
import { Links } from "../links/links.ts";
import { lockDevice } from "../linux/lock.ts";
import { ForwardPolicy } from "../mesh/forward-policy.ts";
import { createMesh } from "../mesh/mesh.ts";
import { DockerRuntime } from "../runtime/docker.ts";
import { Engine } from "../runtime/engine.ts";
import { EngineWatch } from "../runtime/engine-watch.ts";
import { ProcessRuntime } from "../runtime/process.ts";
import { Runtimes } from "../runtime/runtimes.ts";
import { Sandboxes } from "../runtime/sandbox.ts";
import { Supervisor } from "../runtime/supervisor.ts";
import { AttachedNamespaces } from "./attached-namespaces.ts";
import { Attachments } from "./attachments.ts";
import { createBackend } from "./backend.ts";
import type { Config } from "./config.ts";
import { DataPath } from "./datapath.ts";
import { places } from "./places.ts";
import { ResolvConf } from "./resolv-conf.ts";
import { RunSandboxes } from "./run-sandboxes.ts";
import { type Sandbox, Sync } from "./sync.ts";
import { drainTask } from "./task-drain.ts";
import { TaskStatuses } from "./task-statuses.ts";
import { findUnderlayLink, hostAddresses } from "./underlay-link.ts";

const DEFAULT_SPIN_MICROS = 100;
const MOST_DEFAULT_WORKERS = 4;

export interface Agent {
  /** Stops; TUN, links, rules, flows and tasks stay for the next start. */
  stop(): Promise<void>;
}

export interface AgentOptions {
  config: Config;
  log: Log;
  /** The data path failed while it ran: nothing is carried any more. */
  onFailure: (error: Error) => void;
}

/** Starts all parts. Throws PlatformError when the machine lacks something; then nothing goes on running. */
export async function startAgent({ config, log, onFailure }: AgentOptions): Promise<Agent> {
  const stops: (() => Promise<void> | void)[] = []; // BOUNDED: by the parts; in the order they started
  const stop = async (): Promise<void> => {
    for (const stopOne of stops.splice(0).reverse()) {
      await Promise.resolve(stopOne()).catch((error: unknown) =>
        log.error("a part did not stop cleanly", { reason: messageOf(error) }),
      );
    }
  };
  try {
    await start(config, log, onFailure, stops);
    return { stop };
  } catch (error) {
    await stop();
    throw error;
  }
}

async function start(
  config: Config,
  log: Log,
  onFailure: (error: Error) => void,
  stops: (() => Promise<void> | void)[],
): Promise<void> {
  const clock = systemClock;
  const { device, pool } = config;
  const where = places(config);
  const lock = lockDevice(device);
  stops.push(() => lock.release());

  const { address, overlayMtu } = await findUnderlayLink(config.node.address);
  const mtu = config.vxlan.mtu ?? overlayMtu;
  await mkdir(config.dataDir, { recursive: true, mode: 0o700 });
  if (config.cluster.listen !== undefined) stops.push(await leadIfPossible(config, log, clock));

  const links = new Links({ log, clock, device });
  await links.prepare(cidr(pool), mtu);
  stops.push(() => links.close());
  const dataPath = await DataPath.start({
    device,
    address,
    port: config.vxlan.port,
    flowFile: where.flows,
    flowCapacity: config.datapath.flows,
    underlay: config.datapath.underlay,
    spinMicros: config.datapath.spinMicros ?? DEFAULT_SPIN_MICROS,
    workers: config.datapath.workers ?? defaultWorkers(),
    log,
    onFailure,
  });
  stops.push(() => dataPath.stop());

  const mesh = await createMesh({ log, clock });
  stops.push(() => mesh.close());
  const resolvConf = new ResolvConf(clock);
  stops.push(() => resolvConf.stop());
  const { resolvers = resolvConf.resolvers, forward, domain } = config.dns;
  const dns = new DnsServer({ clock, log, names: compileNames(emptyState(), { pool, domain }), resolvers, forward });
  stops.push(() => dns.stop());
  if (config.dns.resolvers === undefined) {
    resolvConf.watch((found) => {
      dns.setResolvers(found);
      log.info("the node's resolvers have changed", { address: found.join(" ") });
    });
  }

  const session = new Session({
    identity: {
      name: config.node.name,
      address,
      vxlanPort: config.vxlan.port,
      manager: config.cluster.listen !== undefined,
    },
    managers: managersOf(config),
    snapshotPath: where.snapshot,
    clock,
    log,
  });
  const taskSandboxes = new Sandboxes({ node: config.node.name, kind: "task" });
  const runSandboxes = new Sandboxes({ node: config.node.name, kind: "run" });
  const engine = new Engine(config.docker.socket);
  const engineWatch = new EngineWatch({ engine, clock, log });
  stops.push(() => engineWatch.stop());
  const forwardPolicy = new ForwardPolicy({ log, device });
  await forwardPolicy.open();
  // Docker sets its policy when it starts.
  engineWatch.listen({ opened: () => void forwardPolicy.open(), happened: () => {} });
  const runtime = new Runtimes({
    process: new ProcessRuntime({
      directory: where.tasks,
      sandboxes: taskSandboxes,
      clock,
      log,
      path: process.env.PATH ?? "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    }),
    docker: new DockerRuntime({
      node: config.node.name,
      engine,
      watch: engineWatch,
      sandboxes: taskSandboxes,
      clock,
      log,
      environment: process.env,
    }),
  });
  const refresh = (): void => {
    const { state, nodeId } = session;
    if (state === undefined || nodeId === undefined) return;
    statuses.expect(observedIds(state, nodeId));
    sync.update(statuses.overlay(state));
    attachments.changed();
  };
  const statuses = new TaskStatuses({ report: (rows) => session.reportStatuses(rows), changed: refresh });
  let supervisor: Supervisor | undefined;

  const sync = new Sync({
    log,
    clock,
    device,
    pool,
    mtu,
    meshOn: config.mesh,
    nodeId: () => session.nodeId,
    hostAddresses: () => hostAddresses(device),
    sandboxes: async () => {
      const made = await madeSandboxes(session.state, taskSandboxes, runSandboxes);
      return new Map([...made, ...attachments.sandboxes()]);
    },
    dataPath,
    links,
    mesh,
    dns: {
      update: (state) => dns.update(compileNames(state, { pool, domain })),
      listen: (addresses) => dns.listen(addresses),
    },
    tasks: {
      apply: (tasks) => {
        supervisor ??= new Supervisor({
          runtime,
          clock,
          log,
          nodeId: session.nodeId!,
          attach: async (task) => {
            await sync.again();
            for (const address of Object.values(session.state?.tasks.get(task.id)?.addresses ?? {})) {
              const problem = sync.problemOf(address);
              if (problem !== undefined) throw new Error(`its link cannot be made: ${problem}`);
            }
          },
          detach: async () => {}, // the links end with the network namespace
          drain: async ({ id }) => {
            const { tasks, services } = session.state ?? emptyState();
            const task = tasks.get(id);
            // A service that was removed has no address that anybody could still talk to.
            const graceMs = services.get(task?.serviceId ?? "")?.stopGraceMs ?? 0;
            const liveFlows = (servers: readonly Ipv4[]) => dataPath.liveFlows(servers);
            await drainTask({ clock, liveFlows }, Object.values(task?.addresses ?? {}), graceMs);
          },
          report: (status) => statuses.set(status),
        });
        supervisor.apply(tasks);
      },
    },
    heldPorts: (ports) => session.reportHeldPorts(ports),
    applied: (revision) => session.reportApplied(revision),
  });
  stops.push(() => supervisor?.close());
  stops.push(() => sync.stop());
  const attachments = new Attachments({
    nodeName: config.node.name,
    log,
    clock,
    engine,
    watch: engineWatch,
    namespaces: new AttachedNamespaces(new Sandboxes({ node: config.node.name, kind: "attached" }), log),
    state: () => session.state,
    nodeId: () => session.nodeId,
    execute: (command) => session.execute(command),
    relink: () => sync.again(),
    problemOf: (address) => sync.problemOf(address),
    report: (status) => statuses.set(status),
  });
  stops.push(() => attachments.stop());
  session.onState(refresh);

  const sandboxes = new RunSandboxes({
    log,
    clock,
    directory: where.run,
    sandboxes: runSandboxes,
    state: () => session.state,
    nodeId: () => session.nodeId,
    execute: (command) => session.execute(command),
    relink: () => sync.again(),
    problemOf: (address) => sync.problemOf(address),
  });
  await sandboxes.start();
  stops.push(() => sandboxes.stop());

  await session.start();
  stops.push(() => session.stop());
  links.watch();
  mesh.watch();
  engineWatch.start();
  const backend = createBackend({
    nodeName: config.node.name,
    session,
    dataPath,
    dns,
    sandboxes,
    runtime,
    attachments,
  });
  const api = await serveApi(backend, { socketPath: config.socket, log });
  stops.push(() => api.close());
  log.info("the agent runs", { node: config.node.name, address, path: config.socket });
}

/** Half of the processors: the containers want the rest, and a woken worker wants one that is free. */
function defaultWorkers(): number {
  return Math.max(1, Math.min(Math.floor(availableParallelism() / 2), MOST_DEFAULT_WORKERS));
}

/** A damaged store keeps the node from leading, and not from carrying what it carries. Returns what stops it. */
async function leadIfPossible(config: Config, log: Log, clock: Clock): Promise<() => Promise<void>> {
  try {
    return await startLeader(config, log, clock);
  } catch (error) {
    if (!(error instanceof DamagedStoreError)) throw error;
    log.error("this node does not lead, and runs from its snapshot", { reason: error.message });
    return async () => {};
  }
}

/** Returns what stops it. */
async function startLeader(config: Config, log: Log, clock: Clock): Promise<() => Promise<void>> {
  const listen = config.cluster.listen!;
  const store = await openEmbeddedStore(join(config.dataDir, "store"));
  const leader = new Leader({
    store,
    clock,
    log,
    newId,
    config: {
      pool: config.pool,
      livenessMs: config.cluster.sessionTimeoutMs,
      reservedPorts: [
        { port: listen.port, protocol: "tcp", owner: "the cluster's sessions" },
        { port: config.vxlan.port, protocol: "udp", owner: "VXLAN" },
      ],
    },
  });
  await leader.start();
  const server = await serveSessions(leader, { ...listen, log });
  return async () => {
    await leader.stop();
    await server.close();
    await store.close();
  };
}

/** A manager's own sessions are answered here first. */
function managersOf({ cluster: { listen, managers } }: Config): string[] {
  return [...new Set([...(listen === undefined ? [] : [`${listen.host}:${listen.port}`]), ...managers])];
}

/** Network namespaces that this node made, by the id of their task or endpoint. */
async function madeSandboxes(
  state: State | undefined,
  tasks: Sandboxes,
  runs: Sandboxes,
): Promise<Map<string, Sandbox>> {
  const present = new Set([...(await tasks.list()), ...(await runs.list())]);
  const sandboxes = new Map<string, Sandbox>();
  const add = (id: string, netns: string): void => {
    if (present.has(netns)) sandboxes.set(id, { netns });
  };
  for (const id of state?.tasks.keys() ?? []) add(id, tasks.nameOf(id));
  for (const id of state?.endpoints.keys() ?? []) add(id, runs.nameOf(id));
  return sandboxes;
}

/** What the node tells the state of: its tasks, and what is attached to it. */
function observedIds({ tasks, endpoints }: State, own: string): ReadonlySet<string> {
  const rows = [...tasks.values(), ...[...endpoints.values()].filter(({ attachment }) => attachment !== null)];
  return new Set(rows.filter(({ nodeId }) => nodeId === own).map(({ id }) => id));
}
