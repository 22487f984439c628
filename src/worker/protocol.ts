// What the agent's main thread and a data-path worker say to each other.

import type { CachedAnswer } from "../datapath/answer-cache.ts";
import type { EngineReport } from "../datapath/engine.ts";
import type { HealthReport } from "../datapath/peer-health.ts";
import type { TableDiff } from "../datapath/rows.ts";
import type { Cidr } from "../lib/ip.ts";

/** How a worker is to be started. */
export interface WorkerSetup {
  device: string;
  /** The VTEP. */
  address: string;
  port: number;
  /** Of the addresses that endpoints have. */
  pool: Cidr;
  /** Where this process has the flow table mapped. */
  flowAddress: number;
  flowCapacity: number;
  underlay: "auto" | "batched" | "dgram";
  spinMicros: number;
  /** How many flows one endpoint may begin each second, over all workers. */
  newFlowsPerSecond: number;
  /** How far the threads go before ordinary programs, 0 to 20. */
  priority: number;
  /** Of how many this one is which, from 0. The first opens the flow table, the others join it. */
  index: number;
  workers: number;
  /** Of the TUN, a worker. Where the kernel has no program for them, the first worker has one, and so have the others. */
  lanes: number;
  /** One int32: how many commands were posted. A worker that is not blocked looks here. */
  posted: SharedArrayBuffer;
}

export type WorkerCommand =
  | { type: "apply"; diff: TableDiff }
  | { type: "health"; report: HealthReport }
  | { type: "addAnswer"; answer: CachedAnswer }
  | { type: "forgetAnswers" }
  | { type: "report" }
  | { type: "stop" };

export interface WorkerRequest {
  id: number;
  command: WorkerCommand;
}

/** What the commands answer. */
export interface WorkerResults {
  apply: undefined;
  health: undefined;
  addAnswer: undefined;
  forgetAnswers: undefined;
  report: EngineReport;
  stop: undefined;
}

export type WorkerMessage =
  /** First, once: the loop runs. `eventFd` ends its wait; `unraised` says why the thread has not the priority asked for. */
  | {
      type: "ready";
      eventFd: number;
      underlay: "batched" | "dgram";
      lanes: number;
      notes: string[];
      unraised: string | null;
    }
  | { type: "result"; id: number; value: WorkerResults[keyof WorkerResults] }
  | { type: "refused"; id: number; message: string }
  | { type: "health"; report: HealthReport }
  | { type: "failed"; message: string; mend: string | null };
