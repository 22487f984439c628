// Addresses of nodes on the underlay that are held back: a data path that still has a removed node's VTEP would take
// packets of the next node there for that node's, and send it that node's packets.
import type { Allocation, Node } from "../cluster/schema.ts";
import type { Draft } from "../cluster/state.ts";
import type { State } from "../cluster/tables.ts";
import { UserError } from "../lib/errors.ts";

/** No other node gets the VTEP until every live node has applied the draft's revision: then `freeReleased` frees it. */
export function holdVtep(draft: Draft, { id, address, ingressAddress }: Node): void {
  const { networkId } = draft.state.allocations.get(ingressAddress)!;
  draft.put("allocations", { address, networkId, holder: { kind: "node", id }, releasedAt: draft.revision });
}

/** The node's VTEP is `address` from now, which it may have had before. The one before that is held back. */
export function moveVtep(draft: Draft, node: Node, address: string): void {
  if (node.address === address) return;
  if (heldVtep(draft.state, address)?.holder.id === node.id) draft.remove("allocations", address);
  holdVtep(draft, node);
}

/** How the address is held back; undefined: it is not. VTEPs in use are in the nodes' rows. */
export function heldVtep({ allocations }: Pick<State, "allocations">, address: string): Allocation | undefined {
  return allocations.get(address);
}

/** Throws UserError 409 while the address is held back from the node. */
export function requireVtepFree(state: State, nodeId: string | undefined, address: string): void {
  const held = heldVtep(state, address);
  if (held === undefined || held.holder.id === nodeId) return;
  const message = `the address ${address} was that of another node, and is held back until every node has heard so; try again in a moment`;
  throw new UserError(409, message, { field: "address" });
}
