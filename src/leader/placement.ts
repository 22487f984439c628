// Which node takes a task: of those that can, the one with the fewest tasks of the service, then of all.
import type { Features } from "../cluster/features.ts";
import { sameName } from "../cluster/lookup.ts";
import type { Node, Service } from "../cluster/schema.ts";
import type { State } from "../cluster/tables.ts";
import { MAX_REASON } from "../lib/bounds.ts";
import { counted } from "../lib/counted.ts";
import { shortened } from "../lib/shortened.ts";

/** A node that takes tasks, and how many it has. */
interface Place {
  readonly node: Node;
  tasks: number;
}

/** The nodes that take tasks, those with the fewest first, for one turn: `take` counts each task that is placed in it. */
export class Places {
  readonly #state: State;
  readonly #features: Features;
  // BOUNDED: by the nodes.
  readonly #places: Place[];
  /** The reasons of the nodes that take no tasks; undefined until one is asked for. */
  #others: ReasonCounts | undefined;

  /** Loops over the nodes: once a turn that has tasks to place, not once a service. */
  constructor(state: State, features: Features) {
    this.#state = state;
    this.#features = features;
    this.#places = state.nodes
      .by("state", "ready")
      .filter((node) => reasonAgainstAll(node) === undefined)
      .map((node) => ({ node, tasks: state.tasks.count("wanted", node.id) }))
      .sort(inOrder);
  }

  /** The search for nodes for tasks of the service. */
  for(service: Service): PlaceSearch {
    return new PlaceSearch(this.#state, service, { places: this.#places, features: this.#features });
  }

  /**
   * Why no node takes a task of the service. It has counts instead of names, since each task that waits carries it to every
   * node. Loops over the nodes that take tasks, and once a turn over the others.
   */
  whyNowhere(service: Service): string {
    const { nodes } = this.#state;
    if (nodes.size === 0) return "no node has joined";
    if (this.#others === undefined) {
      this.#others = new ReasonCounts();
      for (const node of nodes.values()) this.#others.add(reasonAgainstAll(node));
    }
    const counts = new ReasonCounts(this.#others);
    for (const { node } of this.#places) counts.add(reasonAgainst(this.#state, node, service, this.#features));
    return shortened(`no suitable node (${counts.words})`, MAX_REASON);
  }

  /** The node has a task more. */
  take(place: Place): void {
    this.#places.splice(this.#indexOf(place), 1);
    place.tasks++;
    this.#places.splice(this.#indexOf(place), 0, place);
  }

  /** Where the place is, or is to be. */
  #indexOf(place: Place): number {
    let [low, high] = [0, this.#places.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (inOrder(this.#places[middle]!, place) < 0) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}

/** Finds the nodes for the tasks of one service, one after the other. */
class PlaceSearch {
  readonly #state: State;
  readonly #service: Service;
  readonly #features: Features;
  readonly #places: readonly Place[];
  // BOUNDED: by the service's tasks; keyed by node. How many tasks of the service it has.
  readonly #own = new Map<string, number>();
  // BOUNDED: by the nodes. Those that take none of its tasks, as far as they were looked at.
  readonly #refused = new Set<Node>();
  /** No node that takes its tasks has fewer. */
  #fewest = 0;

  constructor(state: State, service: Service, { places, features }: { places: readonly Place[]; features: Features }) {
    this.#state = state;
    this.#service = service;
    this.#places = places;
    this.#features = features;
    for (const { nodeId } of state.tasks.by("wanted", service.id)) if (nodeId !== null) this.#count(nodeId);
  }

  /**
   * The node with the fewest tasks of the service, then of all; undefined when none takes one. Looks at no more nodes than
   * the service has tasks, and those that refuse them; at all nodes only when each has as many of its tasks.
   */
  best(): Place | undefined {
    let best: { place: Place; own: number } | undefined;
    for (const place of this.#places) {
      const own = this.#own.get(place.node.id) ?? 0;
      if ((best !== undefined && own >= best.own) || this.#refuses(place.node)) continue;
      best = { place, own };
      if (own === this.#fewest) break;
    }
    if (best !== undefined) this.#fewest = best.own;
    return best?.place;
  }

  /** The node has a task of the service more. */
  took({ id }: Node): void {
    this.#count(id);
  }

  #refuses(node: Node): boolean {
    if (this.#refused.has(node)) return true;
    if (reasonAgainst(this.#state, node, this.#service, this.#features) === undefined) return false;
    this.#refused.add(node);
    return true;
  }

  #count(nodeId: string): void {
    this.#own.set(nodeId, (this.#own.get(nodeId) ?? 0) + 1);
  }
}

function inOrder(a: Place, b: Place): number {
  return a.tasks - b.tasks || compare(a.node.name, b.node.name);
}

/** How many nodes have each reason; keyed by its words for one node. */
class ReasonCounts {
  // BOUNDED: by the reasons, and the constraints of a service.
  readonly #counts: Map<string, { reason: Reason; count: number }>;

  constructor(begun?: ReasonCounts) {
    this.#counts = new Map(begun && [...begun.#counts].map(([key, counted]) => [key, { ...counted }]));
  }

  add(reason: Reason | undefined): void {
    if (reason === undefined) return;
    const known = this.#counts.get(reason[0]);
    if (known === undefined) this.#counts.set(reason[0], { reason, count: 1 });
    else known.count++;
  }

  /** The most frequent reason first. */
  get words(): string {
    return [...this.#counts.values()]
      .toSorted((a, b) => b.count - a.count || compare(a.reason[0], b.reason[0]))
      .map(({ count, reason: [one, several] }) => counted(count, `node ${one}`, `nodes ${several}`))
      .join("; ");
  }
}

/** The words for one node, and for several. */
type Reason = readonly [one: string, several: string];

/** Why the node takes no task of any service; undefined when it takes some. */
function reasonAgainstAll({ state, availability, health }: Node): Reason | undefined {
  if (state !== "ready") return [`is ${state}`, `are ${state}`];
  if (availability !== "active") return ["is drained", "are drained"];
  if (health === "silent") return ["is silent", "are silent"];
  if (health !== "well") return ["is behind with its state", "are behind with their state"];
  return undefined;
}

/** Why the node takes no task of the service; undefined when it does. */
function reasonAgainst(state: State, node: Node, service: Service, features: Features): Reason | undefined {
  const { id, workload, constraints, ports } = service;
  const reason = reasonAgainstAll(node);
  if (reason !== undefined) return reason;
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
