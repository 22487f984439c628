// How a service's VIPs spread new connections over its tasks, as it is kept and as a person asks for it.
import { z } from "zod";
import { MAX_NODES, MAX_WORD, map, text } from "../lib/bounds.ts";

const MAX_WEIGHT = 1000;
/** Three hours, as Kubernetes has it. */
const DEFAULT_AFFINITY_SECONDS = 10_800;

const Weight = z
  .int("a weight is a whole number")
  .min(0, "a weight is 0 or more")
  .max(MAX_WEIGHT, `a weight is at most ${MAX_WEIGHT}`);

export const Balancing = z.object({
  scheduler: z.enum(["rr", "wrr", "lc", "sh", "maglev"]).default("rr"),
  /** `client-ip`: a client keeps its task until it has made no connection for the timeout. */
  affinity: z.enum(["none", "client-ip"]).default("none"),
  affinityTimeoutSeconds: z
    .int()
    .min(1, "an affinity lasts a second at least")
    .max(86_400, "an affinity lasts a day at most")
    .default(DEFAULT_AFFINITY_SECONDS),
  /** `prefer-local`: tasks on the client's node, or the one that it reached, before all others. */
  locality: z.enum(["any", "prefer-local"]).default("any"),
  /** The weight of the tasks on a node, by the node's name; 1 where none is given, 0: no new connections. */
  weights: map(text(MAX_WORD), Weight, MAX_NODES).default({}),
});
export type Balancing = z.infer<typeof Balancing>;

export const DEFAULT_BALANCING: Balancing = Balancing.parse({});
