// Nodes that a service names and that there are not: more likely a slip than a node to come.
import { nearestName } from "../cluster/lookup.ts";
import type { Service } from "../cluster/schema.ts";
import type { State } from "../cluster/tables.ts";

export function namedNodeWarnings({ nodes }: State, { constraints, balancing }: Service): string[] {
  const named = [
    ...constraints.map((constraint) => [constraint, constraint.replace(/^node\.name[!=]=/, "")] as const),
    ...Object.keys(balancing.weights).map((node) => [`weight of ${node}`, node] as const),
  ];
  return named
    .filter(([, node]) => !nodes.by("name", node.toLowerCase()).some(({ name }) => name === node))
    .map(([where, node]) => `${where}: there is no node '${node}'${nearestName(nodes, node)}`);
}
