// Which node takes a task: of those that can, the one with the fewest tasks of the service, then of all.
import type { Features } from "../cluster/features.ts";
import { sameName } from "../cluster/lookup.ts";
import type { Node, Service } from "../cluster/schema.ts";
import type { State } from "../cluster/tables.ts";
import { MAX_REASON } from "../lib/bounds.ts";
import { shortened } from "../lib/shortened.ts";

/** A node that can take a task of one service, and how many tasks it has of that service and of all. */
interface Candidate {
  node: Node;
  own: number;
  all: number;
}

/** The nodes that can take a task of the service. Loops over the nodes, for each service with tasks that wait. */
export function candidatesFor(state: State, service: Service, features: Features): Candidate[] {
  const candidates: Candidate[] = [];
  for (const node of state.nodes.by("state", "ready")) {
    if (reasonAgainst(state, node, service, features) !== undefined) continue;
    const own = state.tasks.count("wanted", `${service.id}/${node.id}`);
    candidates.push({ node, own, all: state.tasks.count("wanted", node.id) });
  }
  return candidates;
}

/** The one with the fewest tasks; undefined when there is none. Loops over the candidates, for each task that waits. */
export function bestOf(candidates: readonly Candidate[]): Candidate | undefined {
  let best: Candidate | undefined;
  for (const candidate of candidates) {
    const order =
      best && (candidate.own - best.own || candidate.all - best.all || compare(candidate.node.name, best.node.name));
    if (order === undefined || order < 0) best = candidate;
  }
  return best;
}

/** Whether a node has one task of the service at most: all its tasks there have the same port of the node. */
export function isOnceANode({ ports }: Service): boolean {
  return ports.some(({ mode }) => mode === "host");
}

/**
 * Why no node takes a task of the service. It has counts instead of names, since each task that waits carries it to every
 * node. Loops over the nodes.
 */
export function whyNowhere(state: State, service: Service, features: Features): string {
  if (state.nodes.size === 0) return "no node has joined";
  const counts = new Map<string, { count: number; reason: Reason }>();
  for (const node of state.nodes.values()) {
    const reason = reasonAgainst(state, node, service, features);
    if (reason === undefined) continue;
    const known = counts.get(reason[0]);
    if (known === undefined) counts.set(reason[0], { count: 1, reason });
    else known.count++;
  }
  const words = [...counts.values()]
    .toSorted((a, b) => b.count - a.count || compare(a.reason[0], b.reason[0]))
    .map(({ count, reason: [one, several] }) => (count === 1 ? `1 node ${one}` : `${count} nodes ${several}`));
  return shortened(`no suitable node (${words.join("; ")})`, MAX_REASON);
}

/** The words for one node, and for several. */
type Reason = readonly [one: string, several: string];

/** Why the node takes no task of the service; undefined when it does. */
function reasonAgainst(state: State, node: Node, service: Service, features: Features): Reason | undefined {
  const { id, workload, constraints, ports } = service;
  if (node.state !== "ready") return [`is ${node.state}`, `are ${node.state}`];
  if (node.availability !== "active") return ["is drained", "are drained"];
  if (node.health === "silent") return ["is silent", "are silent"];
  if (node.health !== "well") return ["is behind with its state", "are behind with their state"];
  const feature = features.missing(node.version.features, "services", service, state);
  if (feature !== undefined) {
    const what = `an agent without the feature '${feature}'`;
    return [`has ${what}`, `have ${what}`];
  }
  if (workload?.runtime === "docker" && !node.docker) {
    return ["has no Docker that answers", "have no Docker that answers"];
  }
  const violated = constraints.find((constraint) => !satisfies(node, constraint));
  if (violated !== undefined) return [`does not match ${violated}`, `do not match ${violated}`];
  const hostPort = ports.find(({ mode }) => mode === "host");
  if (hostPort === undefined) return undefined;
  if (!node.mesh) return ["answers no published port ('mesh: off')", "answer no published port ('mesh: off')"];
  if (state.tasks.count("running", `${id}/${node.id}`) === 0) return undefined;
  const port = `a task with port ${hostPort.published}/${hostPort.protocol} already`;
  return [`has ${port}`, `have ${port}`];
}

function satisfies(node: Node, constraint: string): boolean {
  const [, operator, name] = /^node\.name(==|!=)(.+)$/.exec(constraint)!;
  return sameName(node.name, name!) === (operator === "==");
}

function compare(a: string, b: string): number {
  return a < b ? -1 : Number(a > b);
}
