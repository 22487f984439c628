// The agent: its parts, wired, in the order in which they start and stop.
import { mkdir } from "node:fs/promises";
import { availableParallelism } from "node:os";
import { join } from "node:path";
import { serveApi } from "../api/server.ts";
import { openEmbeddedStore } from "../cluster/embedded-store.ts";
import { Leader } from "../cluster/leader.ts";
import type { State } from "../cluster/schema.ts";
import { Session } from "../cluster/session.ts";
import { serveSessions } from "../cluster/session-server.ts";
import { emptyState } from "../cluster/state.ts";
import { compileNames } from "../dns/compile-names.ts";
import { DnsServer } from "../dns/server.ts";
import { type Clock, systemClock } from "../lib/clock.ts";
import { messageOf } from "../lib/errors.ts";
import { cidr } from "../lib/ip.ts";
import type { Log } from "../lib/log.ts";
import { newId } from "../lib/random.ts";
import { Links } from "../links/links.ts";
import { lockDevice } from "../linux/lock.ts";
import { createMesh } from "../mesh/mesh.ts";
import { ProcessRuntime } from "../runtime/process.ts";
import { Sandboxes } from "../runtime/sandbox.ts";
import { Supervisor } from "../runtime/supervisor.ts";
import { createBackend } from "./backend.ts";
import type { Config } from "./config.ts";
import { DataPath } from "./datapath.ts";
import { places } from "./places.ts";
import { ResolvConf } from "./resolv-conf.ts";
import { RunSandboxes } from "./run-sandboxes.ts";
import { Sync } from "./sync.ts";
import { TaskStatuses } from "./task-statuses.ts";
import { findUnderlayLink, hostAddresses } from "./underlay-link.ts";

const DEFAULT_SPIN_MICROS = 50;
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
  if (config.cluster.listen !== undefined) stops.push(await startLeader(config, log, clock));

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
    workers: config.datapath.workers ?? Math.min(availableParallelism(), MOST_DEFAULT_WORKERS),
    log,
    onFailure,
  });
  stops.push(() => dataPath.stop());

  const mesh = await createMesh({ log, clock });
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
  const runtime = new ProcessRuntime({
    directory: where.tasks,
    sandboxes: taskSandboxes,
    clock,
    log,
    path: process.env.PATH ?? "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
  });
  const refresh = (): void => {
    if (session.state !== undefined) sync.update(statuses.overlay(session.state));
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
    sandboxes: () => sandboxNames(session.state, taskSandboxes, runSandboxes),
    dataPath,
    links,
    mesh,
    dns: {
      update: (state) => dns.update(compileNames(state, { pool, domain })),
      listen: (addresses) => dns.listen(addresses),
    },
    tasks: {
      apply: (tasks) => {
        statuses.expect(new Set(tasks.map(({ id }) => id)));
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
          report: (status) => statuses.set(status),
        });
        supervisor.apply(tasks);
      },
    },
    applied: (revision) => session.reportApplied(revision),
  });
  stops.push(() => supervisor?.close());
  stops.push(() => sync.stop());
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
  const backend = createBackend({ nodeName: config.node.name, session, dataPath, dns, sandboxes });
  const api = await serveApi(backend, { socketPath: config.socket, log });
  stops.push(() => api.close());
  log.info("the agent runs", { node: config.node.name, address, path: config.socket });
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

/** Network namespaces of this node's containers, by the id of their task or endpoint. */
async function sandboxNames(state: State | undefined, tasks: Sandboxes, runs: Sandboxes): Promise<Map<string, string>> {
  const present = new Set([...(await tasks.list()), ...(await runs.list())]);
  const names = new Map<string, string>();
  const add = (id: string, name: string): void => {
    if (present.has(name)) names.set(id, name);
  };
  for (const id of state?.tasks.keys() ?? []) add(id, tasks.nameOf(id));
  for (const id of state?.endpoints.keys() ?? []) add(id, runs.nameOf(id));
  return names;
}
