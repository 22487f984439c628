// The law of the data path's counters: every packet that it took was sent on, answered, or dropped with a reason.
import type { EngineReport } from "../../src/datapath/engine-report.ts";

/** Drops of packets that were sent on and then refused, and of packets that were never taken. */
const NOT_OF_TAKEN = new Set(["device-refused", "underlay-refused", "underlay-overrun", "device-overrun"]);

/** How many packets were taken that no counter shows; 0 unless something is wrong. */
export function unaccounted({ packets, drops }: Pick<EngineReport, "packets" | "drops">): number {
  const dropped = Object.entries(drops).reduce((sum, [reason, n]) => sum + (NOT_OF_TAKEN.has(reason) ? 0 : n), 0);
  return packets.taken - packets.forwarded - packets.answered - dropped;
}
