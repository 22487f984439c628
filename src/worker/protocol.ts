// The messages between the agent's main thread and a data-path worker.

import type { CachedAnswer } from "../datapath/answer-cache.ts";
import type { InboundKey, OutboundKey } from "../datapath/associations.ts";
import type { EngineReport } from "../datapath/engine-report.ts";
import type { HealthReport } from "../datapath/peer-health.ts";
import type { TableDiff } from "../datapath/rows.ts";
import type { LaneMaps } from "../express/layout.ts";
import type { Cidr, Ipv4 } from "../lib/ip.ts";

/** The express lane that all workers share. */
export interface LaneSetup {
  /** Descriptors of this process. */
  maps: LaneMaps;
  /** Entries that the map of flows takes. */
  capacity: number;
  /** Whether the maps are those of the agent before, with what it had in them. */
  isAdopted: boolean;
}

/** How a worker is to be started. */
export interface WorkerOptions {
  device: string;
  /** The VTEP. */
  address: string;
  port: number;
  /** The UDP port of sealed packets; undefined: this node cannot seal, and takes no such packet. */
  sealedPort?: number | undefined;
  /** The addresses that endpoints may have. */
  pool: Cidr;
  /** Where this process has the flow table mapped. */
  flowAddress: number;
  flowCapacity: number;
  underlay: "auto" | "batched" | "dgram";
  spinMicros: number;
  /** Flows that one endpoint may begin each second, over all workers. */
  newFlowsPerSecond: number;
  /** How far the threads go before ordinary programs, 0 to 20. */
  priority: number;
  /** This worker's index, from 0; `workers` is how many there are. The first opens the flow table, the others join it. */
  index: number;
  workers: number;
  /** Lanes of the TUN that each worker reads. Where the kernel takes no program that chooses lanes, the first worker has one lane, and so have the others. */
  lanes: number;
  /** undefined: every packet takes the agent's own path. */
  express?: LaneSetup | undefined;
  /** One int32, the number of commands that were posted: a worker that is not blocked looks here. */
  posted: SharedArrayBuffer;
}

export type WorkerCommand =
  | { type: "apply"; diff: TableDiff }
  | { type: "health"; report: HealthReport }
  | { type: "addAnswer"; answer: CachedAnswer }
  | { type: "forgetAnswers" }
  /** Links of containers, or routes to peers, are others than before. */
  | { type: "loseWays"; addresses: readonly Ipv4[] }
  /** The lane is at fault with these VTEPs: their flows are to be in no lane. */
  | { type: "avoidLane"; vteps: readonly Ipv4[] }
  /** Keys of this worker. What it had for the same SPI, or for the same socket of its own, goes. */
  | { type: "putAssociations"; inbound: readonly InboundKey[]; outbound: readonly OutboundKey[] }
  /** Inbound associations with these SPIs go, and all associations with these peers. */
  | { type: "forgetAssociations"; spis: readonly number[]; vteps: readonly Ipv4[] }
  | { type: "report" }
  | { type: "stop" };

export interface WorkerRequest {
  id: number;
  command: WorkerCommand;
}

/** The results of the commands. */
export interface WorkerResults {
  apply: undefined;
  health: undefined;
  addAnswer: undefined;
  forgetAnswers: undefined;
  loseWays: undefined;
  avoidLane: undefined;
  putAssociations: undefined;
  forgetAssociations: undefined;
  report: EngineReport;
  stop: undefined;
}

export type WorkerMessage =
  /**
   * Comes first, once: the loop runs. A write to `eventFd` ends its wait; `unraised` says why the thread has not the priority that was asked
   * for, `laneLack` why it has not the express lane.
   */
  | {
      type: "ready";
      eventFd: number;
      underlay: "batched" | "dgram";
      lanes: number;
      notes: string[];
      unraised: string | null;
      laneLack: string | null;
    }
  | { type: "result"; id: number; value: WorkerResults[keyof WorkerResults] }
  | { type: "refused"; id: number; message: string }
  | { type: "health"; report: HealthReport }
  /** A packet to these peers had no key, or the key has sealed enough. It is said again while packets come. */
  | { type: "keysWanted"; vteps: readonly Ipv4[] }
  | { type: "failed"; message: string; mend: string | null };
