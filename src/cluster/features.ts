// What an agent speaks: the protocol's version, and features that came after it. A row that needs a feature is withheld from
// nodes without it, and no task of it is placed there. docs/compatibility.md says what may change in which way.
import { INGRESS_NETWORK, type Kind, type Node, type RowOf } from "./schema.ts";
import type { State } from "./tables.ts";

/** Grows when a session of before cannot go on as it is; what is only more is a feature. */
export const PROTOCOL = 1;
/** The oldest that this version still speaks. */
const OLDEST_PROTOCOL = 1;

/** Why a leader of this version does not speak with a node of that protocol; undefined: it does. */
export function whyNotSpoken(protocol: number): string | undefined {
  if (protocol > PROTOCOL) {
    return `this node speaks protocol ${protocol}, and the leader knows ${PROTOCOL} at most: update overlayd on the managers first`;
  }
  if (protocol >= OLDEST_PROTOCOL) return undefined;
  return `this node speaks protocol ${protocol}, and the leader knows ${OLDEST_PROTOCOL} at least: update overlayd on the node`;
}

/**
 * Which rows need a feature by themselves. Rows that hang on one need what it needs: services on their networks, tasks on
 * their service and networks, endpoints on their network, statuses on their task. A row needs the same features all its life.
 */
type FeatureRule = { readonly feature: string } & { readonly [K in Kind]?: (row: RowOf<K>) => boolean };

/** The agent seals what containers of an encrypted network send to other nodes. */
const SEALED = "sealed";

/** The features of this version that rows need. The ingress network has no containers, and each node has an address on it. */
const RULES: readonly FeatureRule[] = [
  { feature: SEALED, networks: ({ name, encrypted }) => encrypted && name !== INGRESS_NETWORK },
];

/**
 * The agent takes what a peer's express lane sends, whether its own lane has the flow or not: partial checksums, super-packets in one
 * frame. No row needs it: a node without it is sent no such frames.
 */
const LANE = "lane";

/** What this version can do besides the protocol. */
export const FEATURES: readonly string[] = [...RULES.map(({ feature }) => feature), LANE];

/** What a node of this version can do. */
export function featuresOf({ sealed }: Pick<Node, "sealed">): string[] {
  return FEATURES.filter((feature) => feature !== SEALED || sealed !== null);
}

/** Whether a node may be sent what an express lane sends. */
export function takesLane({ version }: Pick<Node, "version">): boolean {
  return version.features.includes(LANE);
}

/** What nodes of one kind of version are not to see. */
export interface Lacking {
  /** The features that they lack. */
  readonly features: ReadonlySet<string>;
  hides<K extends Kind>(kind: K, row: RowOf<K>, state: State): boolean;
}

/** The features that rows need. */
export class Features {
  readonly #rules: readonly FeatureRule[];
  // BOUNDED: by the sets of features that versions have; keyed by the features that are lacking. One object each.
  readonly #lacking = new Map<string, Lacking>();

  constructor(rules = RULES) {
    this.#rules = rules;
  }

  /** What is withheld from a node with these features; undefined: nothing. */
  lackingOf(features: readonly string[]): Lacking | undefined {
    const missing = this.#rules.map(({ feature }) => feature).filter((feature) => !features.includes(feature));
    if (missing.length === 0) return undefined;
    const known = this.#lacking.get(missing.join());
    if (known !== undefined) return known;
    const set = new Set(missing);
    const lacking: Lacking = {
      features: set,
      hides: (kind, row, state) => [...this.#neededBy(kind, row, state)].some((feature) => set.has(feature)),
    };
    this.#lacking.set(missing.join(), lacking);
    return lacking;
  }

  /** A feature that the row needs and a node with these features lacks; undefined: there is none. */
  missing<K extends Kind>(features: readonly string[], kind: K, row: RowOf<K>, state: State): string | undefined {
    if (this.#rules.every(({ feature }) => features.includes(feature))) return undefined; // most nodes, and it is asked for each
    return [...this.#neededBy(kind, row, state)].find((feature) => !features.includes(feature));
  }

  #neededBy<K extends Kind>(kind: K, row: RowOf<K>, state: State): Set<string> {
    const needed = new Set<string>();
    const add = <P extends Kind>(place: P, other: RowOf<P> | undefined): void => {
      if (other === undefined) return;
      for (const rule of this.#rules) {
        const isNeeded = rule[place] as ((row: RowOf<P>) => boolean) | undefined;
        if (isNeeded?.(other) === true) needed.add(rule.feature);
      }
      for (const [next, key] of basesOf(place, other))
        add(next, state[next].get(key) as RowOf<typeof next> | undefined);
    };
    add(kind, row);
    return needed;
  }
}

/** The rows on which this one hangs: kind and key. */
function basesOf<K extends Kind>(kind: K, row: RowOf<K>): [kind: Kind, key: string][] {
  switch (kind) {
    case "services":
      return (row as RowOf<"services">).networks.map((id) => ["networks", id]);
    case "tasks": {
      const { serviceId, addresses } = row as RowOf<"tasks">;
      return [["services", serviceId], ...Object.keys(addresses).map((id): [Kind, string] => ["networks", id])];
    }
    case "endpoints":
      return [["networks", (row as RowOf<"endpoints">).networkId]];
    case "statuses": {
      const { taskId } = row as RowOf<"statuses">;
      return [
        ["tasks", taskId],
        ["endpoints", taskId],
      ];
    }
    default:
      return [];
  }
}
