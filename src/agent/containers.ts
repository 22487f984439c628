// The containers of this node: tasks, containers that are attached, sandboxes of `overlayctl run`, and Docker, where there
// is one.
import { Attachments } from "../attach/attachments.ts";
import { DetachedContainers } from "../attach/detached.ts";
import { AttachedNamespaces } from "../attach/namespaces.ts";
import type { NodeNaming } from "../cluster/container-naming.ts";
import type { State } from "../cluster/tables.ts";
import { systemClock } from "../lib/clock.ts";
import { ProcessEnds } from "../linux/process-ends.ts";
import { ForwardPolicy } from "../mesh/forward-policy.ts";
import { DockerEngine } from "../runtime/docker-engine.ts";
import { DockerWatch } from "../runtime/docker-watch.ts";
import { ProcessWatch } from "../runtime/process-watch.ts";
import { Sandboxes } from "../runtime/sandbox.ts";
import type { Sandbox } from "./compile-links.ts";
import { directoryId } from "./directory-id.ts";
import type { InForce } from "./in-force.ts";
import type { Membership } from "./membership.ts";
import type { AgentOptions } from "./options.ts";
import type { PacketPath } from "./packet-path.ts";
import type { Parts } from "./parts.ts";
import { pathsOf } from "./paths.ts";
import { RunSandboxes } from "./run-sandboxes.ts";
import { TaskLogs } from "./task-log.ts";
import { createRuntimes, Tasks } from "./tasks.ts";

/** Time between two looks at whether the host's firewall lets forwarded traffic pass. */
const FORWARDING_MS = 30_000;

export interface Docker {
  engine: DockerEngine;
  watch: DockerWatch;
}

/** Resolves when forwarded traffic passes the firewall of the host, and of Docker where it runs. */
export async function openDocker(
  { config, log }: AgentOptions,
  { session }: Membership,
  parts: Parts,
): Promise<Docker> {
  const engine = new DockerEngine(config.docker.socket);
  const watch = parts.add(new DockerWatch({ engine, clock: systemClock, log }));
  const forwardPolicy = new ForwardPolicy({ log, device: config.device });
  const passForwarding = (): Promise<void> => forwardPolicy.open({ hasDocker: engine.isThere });
  watch.listen({
    opened: () => {
      session.reportObservations({ docker: true });
      void passForwarding(); // Docker sets its policy when it starts
    },
    away: () => session.reportObservations({ docker: false }),
    happened: () => {},
  });
  await passForwarding();
  // A firewall that is loaded anew takes the rules away.
  const again = setInterval(() => void passForwarding(), FORWARDING_MS);
  parts.add({ stop: () => clearInterval(again) });
  return { engine, watch };
}

export interface Containers {
  attachments: Attachments;
  sandboxes: RunSandboxes;
  logs: TaskLogs;
}

interface ContainersOptions extends Pick<AgentOptions, "config" | "identity" | "log">, Membership, Docker {
  dataPath: PacketPath["dataPath"];
  naming(): NodeNaming;
  inForce: InForce;
}

/** From now on the node's tasks are as the state says, and links of all its containers are made. */
export async function startContainers(options: ContainersOptions, parts: Parts): Promise<Containers> {
  const { config, identity, log, session, leaderCalls, nodeState, engine, watch, dataPath, naming, inForce } = options;
  const { name } = config.node;
  const clock = systemClock;
  const taskSandboxes = new Sandboxes({ node: name, kind: "task" });
  const runSandboxes = new Sandboxes({ node: name, kind: "run" });
  const ends = new ProcessEnds();
  parts.add({ stop: () => ends.close() });
  const runtime = createRuntimes({
    ...{ config, log, session, engine, watch },
    processes: new ProcessWatch({ clock, log, ends }),
    directoryId: await directoryId(pathsOf(config).id),
    sandboxes: taskSandboxes,
  });
  const tasks = new Tasks({ log, session, runtime, inForce, dataPath, nodeState });
  parts.add({ stop: () => tasks.close() });
  parts.add(inForce); // it stops before the tasks: it would start them again
  const shared = {
    ...{ log, clock },
    state: () => session.state,
    isHeard: () => session.isHeard,
    nodeId: () => session.nodeId,
    execute: leaderCalls.execute.bind(leaderCalls),
    relink: () => inForce.again(),
    problemOf: (address: string) => inForce.problemOf(address),
  };
  const attachments = new Attachments({
    ...{ ...shared, nodeName: name, domain: identity.settings.domain, engine, watch },
    detached: await DetachedContainers.open(pathsOf(config).detached, log),
    namespaces: new AttachedNamespaces(new Sandboxes({ node: name, kind: "attached" }), log),
    report: (status) => nodeState.setStatus(status),
  });
  parts.add(attachments);
  const sandboxes = new RunSandboxes({ ...shared, directory: pathsOf(config).run, sandboxes: runSandboxes, naming });
  inForce.begin({
    tasks,
    sandboxes: async () => {
      const made = await madeSandboxes(nodeState.state, session.nodeId ?? "", taskSandboxes, runSandboxes);
      return new Map([...made, ...attachments.sandboxes()]);
    },
  });
  const logs = new TaskLogs({ session, leaderCalls, tasks, runtime, engine, clock, log });
  session.ownLogs.serve((task, query) => logs.readOwn(task, query));
  return { attachments, sandboxes, logs };
}

/** Network namespaces that this node made, by the id of their task or endpoint. */
async function madeSandboxes(
  { tasks, endpoints }: State,
  nodeId: string,
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
