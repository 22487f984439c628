// The agent: its parts, wired, in the order in which they start and stop.

import { Attachments } from "../attach/attachments.ts";
import { DetachedContainers } from "../attach/detached.ts";
import { AttachedNamespaces } from "../attach/namespaces.ts";
import type { NodeNaming } from "../cluster/container-naming.ts";
import type { State } from "../cluster/tables.ts";
import { Names } from "../dns/names.ts";
import { delay, systemClock } from "../lib/clock.ts";
import { PlatformError } from "../lib/errors.ts";
import type { Log } from "../lib/log.ts";
import { LocalAddresses } from "../links/local-addresses.ts";
import { lockDevice } from "../linux/lock.ts";
import { ForwardPolicy } from "../mesh/forward-policy.ts";
import { DockerEngine } from "../runtime/docker-engine.ts";
import { DockerWatch } from "../runtime/docker-watch.ts";
import { Sandboxes } from "../runtime/sandbox.ts";
import { Session } from "../session/session.ts";
import { createBackend } from "./backend.ts";
import { startCarriers } from "./packet-path.ts";
import type { SessionAddress } from "./compile-denied.ts";
import type { Sandbox } from "./compile-links.ts";
import type { Config } from "./config.ts";
import { ownDataDirectory } from "./data-directory.ts";
import { directoryId } from "./directory-id.ts";
import { InForce } from "./in-force.ts";
import { ManagerAddresses } from "./manager-addresses.ts";
import { NodeState } from "./node-state.ts";
import { places } from "./paths.ts";
import { RunSandboxes } from "./run-sandboxes.ts";
import { SpareMemory } from "./spare-memory.ts";
import { Stops } from "./parts.ts";
import { TaskLogs } from "./task-log.ts";
import { TaskProgress } from "./task-progress.ts";
import { createRuntimes, Tasks } from "./tasks.ts";
import { findUnderlayLink } from "./underlay-link.ts";

/** Whether forwarded traffic passes is looked at so often. */
const FORWARDING_MS = 30_000;
/** Starts what carries packets. A fault there is logged and tried again; the rest of the agent starts meanwhile. */
const RESUME_MS = 2000;

export interface Agent {
  /** Stops; TUN, links, rules, flows and tasks stay for the next start. */
  stop(): Promise<void>;
}

export interface AgentOptions {
  config: Config;
  log: Log;
  /** Whether the manager's store is a backup that was put back. */
  newEpoch?: boolean;
  /** Called for `overlayctl leave`: stops the agent, takes away all that the node has of the cluster, and starts the agent again. */
  onLeave: () => void;
  /** The data path failed while it ran: nothing is carried any more. */
  onFailure: (error: Error) => void;
}

/** Starts all parts. Throws PlatformError when the machine lacks something; then nothing goes on running. */
export async function startAgent(options: AgentOptions): Promise<Agent> {
  const stops = new Stops(options.log);
  try {
    await start(options, stops);
    return { stop: () => stops.run() };
  } catch (error) {
    await stops.run();
    throw error;
  }
}

async function start({ config, log, newEpoch = false, onLeave, onFailure }: AgentOptions, stops: Stops): Promise<void> {
  const clock = systemClock;
  const { device, pool, node } = config;
  const lock = lockDevice(device, log);
  stops.push(() => lock.release());
  const { address, overlayMtu } = await findUnderlayLink(node.address);
  const localAddresses = new LocalAddresses({ log, clock, device });
  stops.push(() => localAddresses.close());
  const mtu = config.vxlan.mtu ?? overlayMtu;
  await ownDataDirectory(config.dataDir, log);
  const isManager = config.cluster.listen !== undefined;
  if (newEpoch && !isManager) {
    throw new PlatformError(
      "a new epoch is for the manager whose store was restored",
      "this node has no cluster.listen",
    );
  }
  const session = openSession(config, address, log);
  const nodeState = new NodeState(session, clock);
  stops.push(() => nodeState.stop());
  const names = new Names(nodeState.state, { pool, domain: config.dns.domain });
  nodeState.subscribe((changes) => names.changed(changes));
  const [carriers] = await Promise.all([
    startCarriers({ config, log, stops, address, mtu, names, onFailure }),
    session.readDisk(),
  ]);
  const { links, adoptsLinks, check, dataPath, mesh, dns, resolvConf } = carriers;
  const naming = (): NodeNaming => ({ domain: config.dns.domain, resolver: resolvConf.content });
  const taskSandboxes = new Sandboxes({ node: node.name, kind: "task" });
  const runSandboxes = new Sandboxes({ node: node.name, kind: "run" });
  const engine = new DockerEngine(config.docker.socket);
  const watch = new DockerWatch({ engine, clock, log });
  stops.push(() => watch.stop());
  const forwardPolicy = new ForwardPolicy({ log, device });
  const passForwarding = (): Promise<void> => forwardPolicy.open({ hasDocker: engine.isThere });
  watch.listen({
    opened: () => {
      session.reportFacts({ docker: true });
      void passForwarding(); // Docker sets its policy when it starts
    },
    away: () => session.reportFacts({ docker: false }),
    happened: () => {},
  });
  // A firewall that is loaded anew takes the rules away.
  const again = setInterval(() => void passForwarding(), FORWARDING_MS);
  stops.push(() => clearInterval(again));

  const spareMemory = new SpareMemory(clock);
  stops.push(() => spareMemory.stop());
  const runtime = createRuntimes({
    config,
    log,
    session,
    directoryId: await directoryId(places(config).id),
    sandboxes: taskSandboxes,
    engine,
    watch,
  });
  const tasks = new Tasks({
    log,
    session,
    runtime,
    inForce: () => inForce,
    liveFlows: async (servers) => dataPath.liveFlows(servers),
    report: (status) => nodeState.setStatus(status),
  });
  dataPath.onHealth = ({ unreachable }) => names.setUnreachable(unreachable);
  const managers = new ManagerAddresses({
    managers: managersOf(config),
    clock,
    changed: () => inForce.viewpointChanged(),
  });
  stops.push(() => managers.stop());
  const inForce = new InForce({
    log,
    clock,
    nodeState,
    nodeId: () => session.nodeId,
    isHeard: () => session.isHeard,
    device,
    pool,
    mtu,
    meshOn: config.mesh,
    nodeServices: config.nodeServices,
    managers: () => managers.addresses(),
    adoptsLinks,
    hostAddresses: () => localAddresses.all,
    sandboxes: async () => {
      const made = await madeSandboxes(nodeState.state, session.nodeId, taskSandboxes, runSandboxes);
      return new Map([...made, ...attachments.sandboxes()]);
    },
    dataPath,
    links,
    mesh,
    dns,
    naming,
    tasks,
    observed: (facts) => session.reportFacts(facts),
    applied: (revision) => session.reportApplied(revision),
  });
  stops.push(() => tasks.close());
  stops.push(() => inForce.stop());

  const guests = {
    log,
    clock,
    state: () => session.state,
    isHeard: () => session.isHeard,
    nodeId: () => session.nodeId,
    execute: session.execute.bind(session),
    relink: () => inForce.again(),
    problemOf: (endpoint: string) => inForce.problemOf(endpoint),
  };
  const attachments = new Attachments({
    ...guests,
    nodeName: node.name,
    domain: config.dns.domain,
    engine,
    watch,
    detached: await DetachedContainers.open(places(config).detached, log),
    namespaces: new AttachedNamespaces(new Sandboxes({ node: node.name, kind: "attached" }), log),
    report: (status) => nodeState.setStatus(status),
  });
  stops.push(() => attachments.stop());
  inForce.start();
  await Promise.race([inForce.forwarded(), delay(clock, RESUME_MS)]);

  await check();
  await passForwarding();
  inForce.begin();
  const whyNotLeading = isManager
    ? await (await import("./manager.ts")).leadIfPossible({
        config,
        log,
        stops,
        newEpoch,
        known: session.storedIdentity,
      })
    : undefined;
  const sandboxes = new RunSandboxes({ ...guests, directory: places(config).run, sandboxes: runSandboxes, naming });
  await sandboxes.start();
  stops.push(() => sandboxes.stop());

  const logs = new TaskLogs({ session, tasks, runtime, engine, clock, log });
  session.serveLogs((task, query) => logs.readOwn(task, query));

  attachments.changed();
  nodeState.subscribe(() => spareMemory.changed());
  nodeState.subscribe((changes) => attachments.stateChanged(changes));
  await session.start();
  stops.push(() => session.stop());
  links.watch();
  localAddresses.watch(() => inForce.viewpointChanged());
  mesh.watch();
  watch.start();
  const backend = createBackend({
    nodeName: node.name,
    isLeading: isManager && whyNotLeading === undefined,
    whyNotLeading,
    session,
    dataPath,
    mesh,
    dns,
    sandboxes,
    logs,
    progress: new TaskProgress({ clock, read: (id, query) => logs.read(id, query) }),
    attachments,
    leave: onLeave,
  });
  const { serveApi } = await import("../api/server.ts");
  const api = await serveApi(backend, { socketPath: config.socket, log });
  stops.push(() => api.close());
  log.info("the agent runs", { node: node.name, address, path: config.socket });
}

function openSession(config: Config, address: string, log: Log): Session {
  const { node, vxlan, mesh, cluster } = config;
  return new Session({
    identity: {
      ...{ name: node.name, address, vxlanPort: vxlan.port, mesh },
      manager: cluster.listen !== undefined,
      listen: sessionAddress(cluster.listen),
      advertise: sessionAddress(cluster.advertise),
    },
    managers: managersOf(config),
    snapshotPath: places(config).snapshot,
    clock: systemClock,
    log,
  });
}

function sessionAddress(configured: { host: string; port: number } | undefined): SessionAddress | null {
  return configured === undefined ? null : { address: configured.host, port: configured.port };
}

/** HOST:PORT of each. A manager's own sessions are answered here first. */
function managersOf({ cluster: { listen, managers } }: Config): string[] {
  return [...new Set([...(listen === undefined ? [] : [`${listen.host}:${listen.port}`]), ...managers])];
}

/** Network namespaces that this node made, by the id of their task or endpoint. */
async function madeSandboxes(
  { tasks, endpoints }: State,
  nodeId = "",
  taskSandboxes: Sandboxes,
  runSandboxes: Sandboxes,
): Promise<Map<string, Sandbox>> {
  const present = new Set([...(await taskSandboxes.list()), ...(await runSandboxes.list())]);
  const made = [
    ...tasks.by("node", nodeId).map(({ id }) => [id, taskSandboxes.nameOf(id)] as const),
    ...endpoints.by("node", nodeId).map(({ id }) => [id, runSandboxes.nameOf(id)] as const),
  ];
  return new Map(made.filter(([, netns]) => present.has(netns)).map(([id, netns]) => [id, { netns }]));
}
