// Addresses of nodes on the underlay that are held back: a data path that still has a removed node's VTEP would take
// packets of the next node there for that node's, and send it that node's packets. VTEPs in use are in the nodes' rows.
import type { Node } from "../cluster/schema.ts";
import type { Draft } from "../cluster/state.ts";
import type { State } from "../cluster/tables.ts";
import { UserError } from "../lib/errors.ts";

/** No other node gets the VTEP until every live node has applied the draft's revision. `freeReleased` forgets it then. */
export function holdVtep(draft: Draft, { id, address, ingressAddress }: Node): void {
  const { networkId } = draft.state.allocations.get(ingressAddress)!;
  draft.put("allocations", { address, networkId, holder: { kind: "node", id }, releasedAt: draft.revision });
}

/** The address is a node's from now. */
export function takeVtep(draft: Draft, address: string): void {
  if (draft.state.allocations.has(address)) draft.remove("allocations", address);
}

/** The node's VTEP is `address` from now. The one before is held back. */
export function moveVtep(draft: Draft, node: Node, address: string): void {
  if (node.address === address) return;
  takeVtep(draft, address);
  holdVtep(draft, node);
}

/** Throws UserError 409 while the address is held back from the node. `everywhere`: see LeaderContext. */
export function requireVtepFree(
  { allocations }: Pick<State, "allocations">,
  { nodeId, address, everywhere }: { nodeId: string | undefined; address: string; everywhere: number },
): void {
  const held = allocations.get(address);
  if (held === undefined || held.holder.id === nodeId || (held.releasedAt ?? 0) <= everywhere) return;
  const message = `the address ${address} was that of another node, and is held back until every node has heard so; try again in a moment`;
  throw new UserError(409, message, { field: "address" });
}
