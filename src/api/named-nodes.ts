// Nodes that a service names and that there are not: more likely a slip than a node to come.
import type { Service, State } from "../cluster/schema.ts";
import { didYouMean } from "../lib/nearest.ts";

export function namedNodeWarnings(state: State, { constraints, balancing }: Service): string[] {
  const names = [...state.nodes.values()].map(({ name }) => name);
  const named = [
    ...constraints.map((constraint) => [constraint, constraint.replace(/^node\.name[!=]=/, "")] as const),
    ...Object.keys(balancing.weights).map((node) => [`weight of ${node}`, node] as const),
  ];
  return named
    .filter(([, node]) => !names.includes(node))
    .map(([what, node]) => `${what}: there is no node '${node}'${didYouMean(node, names)}`);
}
