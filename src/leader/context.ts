// What the leader's decisions need besides the state.
import type { Features } from "../cluster/features.ts";
import type { Protocol } from "../cluster/schema.ts";
import type { Cidr } from "../lib/ip.ts";
import type { Addresses } from "./ipam.ts";

/** A port that the cluster itself needs on every node. `owner` completes "is ...". */
export interface ReservedPort {
  port: number;
  protocol: Protocol;
  owner: string;
}

export interface LeaderContext {
  /** Wall-clock milliseconds. */
  now: number;
  newId: () => string;
  /** What a join token is made of: it cannot be guessed. */
  newSecret: () => string;
  /** What the networks' subnets are cut from. */
  pool: Cidr;
  addresses: Addresses;
  reservedPorts: readonly ReservedPort[];
  /** The features that rows need of a node. */
  features: Features;
  /** What names are found under in DNS. */
  domain: string;
  /** The newest revision that all nodes have in force that are waited for; Infinity: there is no such node. */
  everywhere: number;
  /** Whether the node's session has been silent for longer than the leader tolerates. */
  silent: (nodeId: string) => boolean;
}
