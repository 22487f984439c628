// Where the cluster's managers are reached.
import { EVERY_ADDRESS } from "../lib/ip.ts";
import type { Node } from "./schema.ts";
import type { State } from "./tables.ts";

/** HOST:PORT of each that has said where it answers. Loops over the managers. */
export function managersOf({ nodes }: Pick<State, "nodes">): string[] {
  return nodes.by("role", "manager").flatMap((node) => managerAddressOf(node) ?? []);
}

/** HOST:PORT at which nodes reach the node's manager; undefined: it has not said. */
export function managerAddressOf({ address, listen, advertise }: Node): string | undefined {
  const at = advertise ?? listen;
  if (at === null) return undefined;
  return `${at.address === EVERY_ADDRESS ? address : at.address}:${at.port}`;
}
