// Peers with which the express lane is at fault, in a person's words: the log names each once, until the lane is turned on again.
import { formatIpv4, type Ipv4 } from "../lib/ip.ts";
import type { Log } from "../lib/log.ts";
import type { DataPath } from "../worker/data-path.ts";
import type { ExpressLane } from "./express-lane.ts";

interface LaneStallsOptions {
  log: Log;
  lane: Pick<ExpressLane, "stalled" | "onRetry">;
  dataPath: Pick<DataPath, "onAvoid" | "forgetStalls">;
  /** The name of the node with this address; undefined: it has gone. */
  nameOf(address: string): string | undefined;
}

/** Joins the lane with what the data path finds out about it. */
export function followStalls({ log, lane, dataPath, nameOf }: LaneStallsOptions): void {
  const named = new Set<Ipv4>(); // BOUNDED: by the peers; VTEPs
  dataPath.onAvoid = (vteps) => {
    lane.stalled = new Set(vteps);
    for (const vtep of vteps) {
      if (named.has(vtep)) continue;
      named.add(vtep);
      const address = formatIpv4(vtep);
      const what = "connections to a node stall in the express lane, and go on by the agent";
      log.warn(
        `${what}: find what drops VXLAN frames without an outer UDP checksum on the way, then 'overlayctl express on'`,
        {
          ...{ node: nameOf(address) ?? "unknown", address },
        },
      );
    }
  };
  lane.onRetry = () => {
    named.clear();
    dataPath.forgetStalls();
  };
}
