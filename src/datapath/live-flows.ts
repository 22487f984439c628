// Whether anybody is still being served by a task that is to stop.
import type { Ipv4 } from "../lib/ip.ts";
import { Protocol } from "../packet/ipv4.ts";
import { FlowState } from "./flow-entries.ts";
import { isClosing } from "./flow-state.ts";
import type { FlowTable } from "./flow-table.ts";

/** Of what has no end of its own, such as UDP, silence for so long is the end. */
const SILENT_SECONDS = 3;

/** How many flows go to one of these addresses, and are neither ending nor silent. `seconds` is the flows' clock. */
export function countLiveFlows(flows: FlowTable, servers: readonly Ipv4[], seconds: number): number {
  let count = 0;
  for (let flow = 0; flow < flows.highWater; flow++) {
    const entry = 2 * flow;
    const state = flows.stateOf(entry);
    if (state === FlowState.Free || isClosing(state) || !servers.includes(flows.sourceOf(entry + 1))) continue;
    const isSilent = seconds - flows.lastSeenOf(entry) > SILENT_SECONDS;
    if (flows.protocolOf(entry) === Protocol.Tcp || !isSilent) count++;
  }
  return count;
}
