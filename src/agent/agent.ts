// The agent: its parts, in the order in which they start. What carries packets comes first, so that a restart is short.
import type { FastifyInstance } from "fastify";
import type { Backend } from "../api/backend.ts";
import { delay, systemClock } from "../lib/clock.ts";
import { createBackend } from "./backend.ts";
import { openDocker, startContainers } from "./containers.ts";
import { removeManagersStore } from "./former-manager.ts";
import { claimHost, type Host } from "./host.ts";
import { InForce } from "./in-force.ts";
import { rejoin } from "./join.ts";
import type { ManagerPart } from "./manager-part.ts";
import { createMembers } from "./members.ts";
import { type Membership, openMembership } from "./membership.ts";
import { startKeys } from "./node-keys.ts";
import type { AgentOptions } from "./options.ts";
import { type PacketPath, startPacketPath } from "./packet-path.ts";
import { Parts } from "./parts.ts";
import { startRenewing } from "./renewing.ts";
import { openSealing } from "./sealing.ts";
import { TaskProgress } from "./task-progress.ts";

/** How long the rest of the agent waits for what carries packets. A fault there is logged and tried again meanwhile. */
const RESUME_MS = 2000;

export interface Agent {
  /** Stops; TUN, links, rules, flows and tasks stay for the next start. */
  stop(): Promise<void>;
}

/** Starts all parts. Throws PlatformError when the machine lacks something; then nothing goes on running. */
export async function startAgent(options: AgentOptions): Promise<Agent> {
  const parts = new Parts(options.log);
  try {
    await start(options, parts);
    return parts;
  } catch (error) {
    await parts.stop();
    throw error;
  }
}

/** Each part knows those before it. What a later one has for an earlier one, it hands over when it starts. */
async function start(options: AgentOptions, parts: Parts): Promise<void> {
  const { config, identity, log } = options;
  const clock = systemClock;

  const host = await claimHost(options, parts);
  const sealing = await openSealing(options, host, parts);
  const membership = openMembership(options, { ...host, sealing }, parts);
  const { session, leaderCalls, nodeState } = membership;
  const [packets] = await Promise.all([
    startPacketPath({ ...options, ...host, ...membership, sealing }, parts),
    session.readDisk(),
  ]);
  const keys = startKeys({ ...options, ...host, ...membership, ...packets, sealing }, parts);
  const inForce = await startInForce(options, { ...host, ...membership, ...packets }, parts);

  await packets.check();
  const docker = await openDocker(options, membership, parts);
  const containers = await startContainers({ ...options, ...membership, ...packets, ...docker, inForce }, parts);
  const { attachments, sandboxes, logs } = containers;

  let manager: ManagerPart | undefined;
  const backend = createBackend({
    ...{ session, leaderCalls, sandboxes, logs, attachments },
    ...{ dataPath: packets.dataPath, mesh: packets.mesh, dns: packets.dns },
    nodeName: config.node.name,
    identity,
    lane: packets.lane,
    ...{ keys, log },
    whyNotLeading: () => identity.damage ?? manager?.whyNot,
    cluster: () => manager?.cluster,
    members: createMembers(options, membership, () => manager),
    rejoin: async (request) => {
      const isLed = session.connected && manager?.leads === undefined;
      const lacksKeys = manager?.lacksKeys ?? false;
      const view = await rejoin({ config, log, identity, lacksKeys, isLed, address: host.address }, request);
      setImmediate(options.onStartAgain, "this node joined its cluster again"); // the answer goes first
      return view;
    },
    progress: new TaskProgress({ clock, read: (id, query) => logs.read(id, query) }),
    leave: options.onLeave,
  });
  manager = await leadIfManager({ ...options, ...host, ...membership, backend }, parts);
  await sandboxes.start();
  parts.add(sandboxes);
  attachments.changed();
  nodeState.subscribe((changes) => attachments.stateChanged(changes));

  await session.start();
  parts.add(session);
  packets.links.watch();
  host.localAddresses.watch(() => inForce.viewpointChanged());
  packets.mesh.watch();
  docker.watch.start();

  if (identity.damage === undefined) startRenewing({ ...options, ...membership, manager: () => manager }, parts);
  const { serveApi } = await import("../api/server.ts");
  const api = await serveApi(backend, { socketPath: config.socket, log });
  parts.add({ stop: () => api.close() });
  log.info("the agent runs", { node: config.node.name, address: host.address, path: config.socket });
}

/** Resolves when packets and names are as the state on disk says, or that takes too long. */
async function startInForce(
  { config, identity, log }: AgentOptions,
  earlier: Host & Membership & PacketPath,
  parts: Parts,
): Promise<InForce> {
  const { session, nodeState, managers, mtu, localAddresses, dataPath, links, adoptsLinks, mesh, lane, dns, naming } =
    earlier;
  const clock = systemClock;
  const inForce = new InForce({
    ...{ log, clock, nodeState, dataPath, links, adoptsLinks, mesh, lane, dns, naming, mtu },
    device: config.device,
    pool: identity.settings.pool,
    meshOn: config.mesh,
    runsStore: config.cluster.etcd.endpoints === undefined,
    nodeServices: config.nodeServices,
    nodeId: () => session.nodeId,
    isHeard: () => session.isHeard,
    managers: () => managers.addresses(),
    hostAddresses: () => localAddresses.all,
    observed: (observations) => session.reportObservations(observations),
    applied: (revision) => session.reportApplied(revision),
  });
  parts.add(inForce);
  inForce.start();
  managers.watch(() => inForce.viewpointChanged());
  await Promise.race([inForce.forwarded(), delay(clock, RESUME_MS)]);
  return inForce;
}

/** undefined: the node is no manager. */
async function leadIfManager(
  options: AgentOptions & Host & Membership & { backend: Backend },
  parts: Parts,
): Promise<ManagerPart | undefined> {
  const { identity, backend, log } = options;
  if (identity.damage !== undefined) return undefined; // what its role is now is not known for certain
  if (identity.role !== "manager") {
    parts.add(removeManagersStore(options));
    return undefined;
  }
  const [{ startManager }, { addOperatorRoutes }] = await Promise.all([
    import("./manager-part.ts"),
    import("../api/operator-routes.ts"),
  ]);
  const operator = (server: FastifyInstance): void => addOperatorRoutes(server, backend, log);
  return startManager({ ...options, operator }, parts);
}
