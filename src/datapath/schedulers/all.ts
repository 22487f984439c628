// The schedulers, by the names that people call them by: those of IPVS.
import type { SchedulerName } from "../rows.ts";
import { LeastConnection } from "./least-connection.ts";
import { Maglev } from "./maglev.ts";
import { RoundRobin } from "./round-robin.ts";
import type { Load, Scheduler } from "./scheduler.ts";
import { SourceHash } from "./source-hash.ts";
import { WeightedRoundRobin } from "./weighted-round-robin.ts";

export function createSchedulers(load: Load): Record<SchedulerName, Scheduler> {
  return {
    rr: new RoundRobin(),
    wrr: new WeightedRoundRobin(),
    lc: new LeastConnection(load),
    sh: new SourceHash(),
    maglev: new Maglev(),
  };
}
