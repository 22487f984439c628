// The agent as its API shows it: what its parts say, in a person's words.
import type { Backend } from "../api/backend.ts";
import type { ClusterBackend } from "../api/cluster-routes.ts";
import type { CheckedJoin, JoinView } from "../api/membership-schema.ts";
import type { EndpointView, StatsView } from "../api/schema.ts";
import type { Attachments } from "../attach/attachments.ts";
import type { RejectedContainer } from "../attach/rejected.ts";
import type { State } from "../cluster/tables.ts";
import type { Role } from "../cluster/trust-rows.ts";
import type { EngineReport } from "../datapath/engine-report.ts";
import type { DnsServer } from "../dns/server.ts";
import { UserError } from "../lib/errors.ts";
import type { Log } from "../lib/log.ts";
import type { DropCounts } from "../mesh/kernel-drops.ts";
import type { NftablesMesh } from "../mesh/nftables-mesh.ts";
import { DROP_NAMES } from "../packet/drop.ts";
import type { LeaderCalls } from "../session/leader-calls.ts";
import type { Session } from "../session/session.ts";
import type { DataPath } from "../worker/data-path.ts";
import { exportKeys } from "./export-keys.ts";
import type { NodeLane } from "./express-lane.ts";
import { flowViews } from "./flow-views.ts";
import type { Identity } from "./identity.ts";
import { sayThatItLeaves } from "./leave.ts";
import type { Members } from "./members.ts";
import type { NodeKeys } from "./node-keys.ts";
import { peerViews } from "./peer-views.ts";
import type { RunSandboxes } from "./run-sandboxes.ts";
import type { TaskLogs } from "./task-log.ts";
import type { TaskProgress } from "./task-progress.ts";

/** The newest flows are searched for those of a service or endpoint: half a second of this thread at most. */
const MOST_FLOWS = 100_000;

interface BackendOptions {
  nodeName: string;
  identity: Identity;
  /** Why this node's manager cannot lead; undefined when it can, or when the node is no manager. */
  whyNotLeading(): string | undefined;
  session: Session;
  leaderCalls: LeaderCalls;
  members: Members;
  /** Makes the node a member again. Throws UserError 409 while its certificate is good. */
  rejoin(request: CheckedJoin): Promise<JoinView>;
  dataPath: DataPath;
  lane: NodeLane;
  keys: NodeKeys;
  log: Log;
  mesh: Pick<NftablesMesh, "drops">;
  dns: DnsServer;
  sandboxes: RunSandboxes;
  attachments: Attachments;
  logs: TaskLogs;
  progress: TaskProgress;
  /** What this node's manager does for an operator; undefined: it is none. */
  cluster(): ClusterBackend | undefined;
  /** Begins to leave the cluster. */
  leave(): void;
}

export function createBackend({
  nodeName,
  identity,
  whyNotLeading,
  session,
  leaderCalls,
  members,
  rejoin,
  dataPath,
  lane,
  keys,
  log,
  mesh,
  dns,
  sandboxes,
  attachments,
  logs,
  progress,
  cluster,
  leave,
}: BackendOptions): Backend {
  const state = (): State => session.requireState();
  /** This node's name in the cluster; the configured name until the cluster has one. */
  const ownName = (): string => session.state?.nodes.get(session.nodeId ?? "")?.name ?? nodeName;
  return {
    get nodeName() {
      return ownName();
    },
    clusterId: identity.clusterId,
    get role() {
      return roleOf(session, identity);
    },
    state,
    onChanges: (listener) => session.onChanges(listener),
    leader: () => ({
      name: leaderName(session),
      connected: session.connected,
      problem: whyNotLeading() ?? (session.connected ? null : (session.problem ?? "no manager has answered yet")),
    }),
    get stateSource() {
      if (session.connected) return "leader";
      return session.isHeard ? "kept" : "disk";
    },
    leave: async (force) => {
      const leaving = { role: roleOf(session, identity), name: ownName(), force };
      const view = await sayThatItLeaves({ session, leaderCalls, ...leaving });
      setImmediate(leave); // the answer goes first
      return view;
    },
    execute: (command) => leaderCalls.executeAndHear(command),
    waitApplied: (revision, timeoutMs) => leaderCalls.waitApplied(revision, timeoutMs),
    rejoin,
    joinToken: (role, options) => members.joinToken(role, options),
    users: () => members.users(),
    addUser: (request) => members.addUser(request),
    rotateAuthority: (request) => members.rotateAuthority(request),
    cluster: () => {
      const own = cluster();
      if (own !== undefined) return own;
      if (identity.role === "manager") throw new UserError(503, whyNotLeading() ?? "this manager is starting");
      throw new UserError(403, whyNoManager(state()));
    },
    peers: async () => peerViews(state(), ownName(), await dataPath.report(), lane, keys),
    exportKeys: (peer, descriptor) =>
      exportKeys({ keys, log }, { state: state(), ownId: session.nodeId, peer, descriptor }),
    stats: async () => statsView(await dataPath.fullReport(), lane.counters(), await mesh.drops(), dns),
    turnLane: (isOn) => lane.turn(isOn),
    flows: async (filter) => {
      const isAll = filter.service === undefined && filter.endpoint === undefined;
      return flowViews(state(), ownName(), await dataPath.flows(isAll ? filter.limit : MOST_FLOWS), filter);
    },
    progress: (taskIds) => progress.of(taskIds),
    taskLog: (id, filter) => logs.read(id, filter),
    openSandbox: (request) => sandboxes.open(request),
    closeSandbox: (id) => sandboxes.close(id),
    attach: ({ subject, ...spec }) => attachments.attach(subject, spec),
    detach: ({ subject, network }) => attachments.detach(subject, network),
    refused: () => attachments.rejected.map((rejected) => rejectedView(rejected, ownName())),
  };
}

function whyNoManager({ nodes }: State): string {
  const names = nodes.by("role", "manager").map(({ name }) => name);
  return `this node is a worker: run this on a manager (${names.join(", ")})`;
}

/** The role of the node's row, which decides; that of its certificate until it has one. */
function roleOf({ state, nodeId }: Session, { role }: Identity): Role {
  return state?.nodes.get(nodeId ?? "")?.role ?? role;
}

function rejectedView({ container: { name, image }, error }: RejectedContainer, node: string): EndpointView {
  const nothing = { id: null, network: null, address: null, vtep: null, mac: null, service: null };
  return { ...nothing, kind: "refused", name, image, node, state: "rejected", error };
}

function leaderName({ state, manager }: Session): string | null {
  if (state === undefined) return null;
  const host = manager?.slice(0, manager.lastIndexOf(":")).toLowerCase() ?? "";
  const [leader] = [...state.nodes.by("address", host), ...state.nodes.by("name", host)];
  return (leader ?? [...state.nodes.values()].find((node) => node.manager))?.name ?? null;
}

function statsView(
  report: EngineReport,
  laneCounters: Record<string, number>,
  kernelDrops: DropCounts,
  dns: DnsServer,
): StatsView {
  const { answersByRcode, ...counters } = dns.stats();
  const { drops, flows, flowCapacity, evictedFlows, displacedFragments, ownPackets, traffic, namesAnswered, express } =
    report;
  const total = (key: "rxPackets" | "txPackets" | "rxBytes" | "txBytes"): number =>
    traffic.reduce((sum, peer) => sum + peer[key], 0);
  return {
    datapath: {
      rxPackets: total("rxPackets"),
      txPackets: total("txPackets"),
      rxBytes: total("rxBytes"),
      txBytes: total("txBytes"),
      flows,
      flowCapacity,
      evictedFlows,
      displacedFragments,
      namesAnswered,
      ...ownPackets,
      lanePackets: express.packets,
      laneBytes: express.bytes,
      laneEntries: express.entries,
      laneEntered: express.entered,
      laneRefused: express.refused,
      laneStalls: express.stalled,
      ...laneCounters,
    },
    drops: {
      ...Object.fromEntries(DROP_NAMES.slice(1).map((reason) => [reason, drops[reason] ?? 0])),
      ...kernelDrops,
    },
    dns: {
      ...counters,
      queries: counters.queries + namesAnswered,
      ...answersByRcode,
      NOERROR: (answersByRcode.NOERROR ?? 0) + namesAnswered,
    },
  };
}
