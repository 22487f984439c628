// The main thread's handle on the data path: starts the worker, sends it table changes, asks it for what it knows.
import { Worker } from "node:worker_threads";
import type { EngineReport } from "../datapath/engine.ts";
import type { FlowRow } from "../datapath/flow-list.ts";
import { diffTables, type TableRows } from "../datapath/tables.ts";
import { PlatformError } from "../lib/errors.ts";
import type { Log } from "../lib/log.ts";
import { wakePoller } from "../linux/poll.ts";
import type { WorkerCommand, WorkerMessage, WorkerRequest, WorkerResults, WorkerSetup } from "./datapath-protocol.ts";

export interface DataPathOptions extends Omit<WorkerSetup, "posted"> {
  log: Log;
  /** The worker ended though nobody asked it to: nothing is carried any more. */
  onFailure: (error: Error) => void;
}

interface Pending {
  resolve(value: never): void;
  reject(error: Error): void;
}

export class DataPath {
  readonly #worker: Worker;
  readonly #posted: Int32Array;
  readonly #pending = new Map<number, Pending>(); // BOUNDED: by the calls under way; keyed by request id
  #eventFd = -1;
  #nextId = 1;
  #rows: TableRows = new Map();
  #ended: Error | undefined;

  /** Resolves when the loop runs. Rejects with PlatformError when the platform refuses. */
  static async start({ log, onFailure, ...setup }: DataPathOptions): Promise<DataPath> {
    const posted = new SharedArrayBuffer(4);
    const worker = new Worker(new URL("datapath-worker.js", import.meta.url), {
      workerData: { ...setup, posted } satisfies WorkerSetup,
    });
    const dataPath = new DataPath(worker, new Int32Array(posted));
    await dataPath.#begin(log, onFailure);
    return dataPath;
  }

  private constructor(worker: Worker, posted: Int32Array) {
    this.#worker = worker;
    this.#posted = posted;
  }

  /** Puts exactly these rows in force; resolves when they are. */
  async apply(rows: TableRows): Promise<void> {
    const diff = diffTables(this.#rows, rows);
    this.#rows = rows;
    if (diff.put.length > 0 || diff.delete.length > 0) await this.#ask({ type: "apply", diff });
  }

  report(): Promise<EngineReport> {
    return this.#ask({ type: "report" });
  }

  flows(limit: number): Promise<FlowRow[]> {
    return this.#ask({ type: "flows", limit });
  }

  /** The device and the flows stay, for the next start. */
  async stop(): Promise<void> {
    if (this.#ended !== undefined) return;
    const exited = new Promise((resolve) => this.#worker.once("exit", resolve));
    await this.#ask({ type: "stop" });
    await exited;
  }

  #begin(log: Log, onFailure: (error: Error) => void): Promise<void> {
    return new Promise((resolve, reject) => {
      let isReady = false;
      const fail = (error: Error): void => {
        if (this.#ended !== undefined) return;
        this.#ended = error;
        for (const { reject } of this.#pending.values()) reject(error);
        this.#pending.clear();
        if (isReady) onFailure(error);
        else reject(error);
      };
      this.#worker.on("message", (message: WorkerMessage) => {
        if (message.type === "failed") {
          fail(message.mend === null ? new Error(message.message) : new PlatformError(message.message, message.mend));
        } else if (message.type === "result") this.#settle(message.id, message.value);
        else {
          this.#eventFd = message.eventFd;
          for (const note of message.notes) log.warn(note);
          log.info("the data path runs", { reason: `${message.underlay} underlay` });
          isReady = true;
          resolve();
        }
      });
      this.#worker.on("error", fail);
      this.#worker.on("exit", (code) => fail(new Error(`the data path's worker ended with status ${code}`)));
    });
  }

  #ask<C extends WorkerCommand>(command: C): Promise<WorkerResults[C["type"]]> {
    if (this.#ended !== undefined) return Promise.reject(this.#ended);
    return new Promise((resolve, reject) => {
      const id = this.#nextId++;
      this.#pending.set(id, { resolve, reject });
      this.#worker.postMessage({ id, command } satisfies WorkerRequest);
      Atomics.add(this.#posted, 0, 1);
      wakePoller(this.#eventFd);
    });
  }

  #settle(id: number, value: unknown): void {
    this.#pending.get(id)?.resolve(value as never);
    this.#pending.delete(id);
  }
}
