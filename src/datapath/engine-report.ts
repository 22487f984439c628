// What a data path says of itself to people: its counters, since it started.
import type { Ipv4 } from "../lib/ip.ts";
import type { SealedTraffic } from "./associations.ts";
import type { Traffic } from "./egress.ts";
import type { ProbeView } from "./peer-session.ts";

/** Packets and datagrams that came in; those that are missing were dropped. */
interface PacketCounts {
  taken: number;
  /** Packets that were sent on. */
  forwarded: number;
  /** Packets that the agent answered itself: ARP requests, questions for names, probes. */
  answered: number;
}

/** Packets that the agent sent of its own, and those that a rate limit held back. */
interface OwnPacketCounts {
  icmpErrorsSent: number;
  resetsSent: number;
  /** ICMP errors and resets that a limit held back, except those about packets that are too big. */
  refusalsLimited: number;
  tooBigLimited: number;
}

/** What a person may want to know of the data path. */
export interface EngineReport {
  drops: Record<string, number>;
  packets: PacketCounts;
  ownPackets: OwnPacketCounts;
  /** Flows that made room for others. */
  evictedFlows: number;
  /** Flows that were held against the tables, because a row that they stand on went. */
  checkedFlows: number;
  /** Datagrams whose fragments had not all come when others took their place. */
  displacedFragments: number;
  traffic: (Traffic & { vtep: Ipv4 })[];
  /** The first worker's sessions with the peers. */
  probes: ProbeView[];
  flows: number;
  flowCapacity: number;
  /** Questions for names that were answered here. */
  namesAnswered: number;
  express: ExpressReport;
  /** What was sealed and opened, for each peer that this node has associations with. */
  sealed: SealedTraffic[];
}

/** The part of the express lane in which this worker had a hand: each packet is in the report of the one that took its count over. */
export interface ExpressReport {
  packets: number;
  bytes: number;
  /** Entries that were given to the lane, and taken out of it. */
  entered: number;
  taken: number;
  /** Entries that the lane had no room for. */
  refused: number;
  /** Entries that are in the lane; 0 in a worker's own report. */
  entries: number;
  /** Flows that stalled in the lane, and went on once they had left it; 0 in a worker's own report. */
  stalled: number;
}
