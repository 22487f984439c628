// The main thread's handle on one data-path worker: it starts the thread, sends it commands, and stops it.
import { Worker } from "node:worker_threads";
import type { HealthReport } from "../datapath/peer-health.ts";
import { PlatformError } from "../lib/errors.ts";
import type { Ipv4 } from "../lib/ip.ts";
import type { Log } from "../lib/log.ts";
import { wakePoller } from "../linux/poll.ts";
import type { WorkerCommand, WorkerMessage, WorkerOptions, WorkerRequest, WorkerResults } from "./protocol.ts";

const YOUNG_MBYTES = 4;

interface Pending {
  resolve(value: never): void;
  reject(error: Error): void;
}

export class DataPathThread {
  readonly #worker: Worker;
  readonly #posted: Int32Array;
  readonly #pending = new Map<number, Pending>(); // BOUNDED: by the calls under way; keyed by request id
  /** Called by the first worker when a peer's health has changed. */
  onHealth: (report: HealthReport) => void = () => {};
  /** Called when packets to these peers have no key, or an old one. */
  onKeysWanted: (vteps: readonly Ipv4[]) => void = () => {};
  underlay: "batched" | "dgram" = "batched";
  /** Why the thread has not the priority that was asked for; null when it has. */
  unraised: string | null = null;
  /** Why it has not the express lane that it was to have; null when it has, or was to have none. */
  laneLack: string | null = null;
  /** Lanes of the device that it reads. */
  lanes = 1;
  #eventFd = -1;
  #nextId = 1;
  #ended: Error | undefined;

  /** Resolves when the loop runs. Rejects with PlatformError when the platform refuses. */
  static async start(
    setup: Omit<WorkerOptions, "posted">,
    log: Log,
    onFailure: (error: Error) => void,
  ): Promise<DataPathThread> {
    const posted = new SharedArrayBuffer(4);
    const worker = new Worker(new URL("worker.js", import.meta.url), {
      workerData: { ...setup, posted } satisfies WorkerOptions,
      // Its loop allocates next to nothing: a larger young generation would only take memory until its first collection.
      resourceLimits: { maxYoungGenerationSizeMb: YOUNG_MBYTES },
    });
    const thread = new DataPathThread(worker, new Int32Array(posted));
    await thread.#begin(log, onFailure);
    return thread;
  }

  private constructor(worker: Worker, posted: Int32Array) {
    this.#worker = worker;
    this.#posted = posted;
  }

  ask<C extends WorkerCommand>(command: C): Promise<WorkerResults[C["type"]]> {
    if (this.#ended !== undefined) return Promise.reject(this.#ended);
    return new Promise((resolve, reject) => {
      const id = this.#nextId++;
      this.#worker.postMessage({ id, command } satisfies WorkerRequest); // throws when it cannot be sent
      this.#pending.set(id, { resolve, reject });
      Atomics.add(this.#posted, 0, 1);
      wakePoller(this.#eventFd);
    });
  }

  /** Sends a command without waiting for its result. The failure of the thread is reported elsewhere. */
  tell(command: WorkerCommand): void {
    void this.ask(command).catch(() => {});
  }

  async stop(): Promise<void> {
    if (this.#ended !== undefined) return;
    const exited = new Promise((resolve) => this.#worker.once("exit", resolve));
    void this.ask({ type: "stop" }); // its answer may come together with the exit
    this.#ended = new Error("the data path was stopped"); // so that the exit is no failure
    await exited;
  }

  #begin(log: Log, onFailure: (error: Error) => void): Promise<void> {
    return new Promise((resolve, reject) => {
      let isReady = false;
      const fail = (error: Error): void => {
        if (this.#ended !== undefined) return;
        this.#ended = error;
        for (const pending of this.#pending.values()) pending.reject(error);
        this.#pending.clear();
        if (isReady) onFailure(error);
        else reject(error);
      };
      this.#worker.on("message", (message: WorkerMessage) => {
        if (message.type === "failed") {
          fail(message.mend === null ? new Error(message.message) : new PlatformError(message.message, message.mend));
        } else if (message.type === "result")
          this.#settle(message.id, ({ resolve }) => resolve(message.value as never));
        else if (message.type === "refused")
          this.#settle(message.id, ({ reject }) => reject(new Error(`a worker of the data path: ${message.message}`)));
        else if (message.type === "health") this.onHealth(message.report);
        else if (message.type === "keysWanted") this.onKeysWanted(message.vteps);
        else {
          this.#eventFd = message.eventFd;
          this.underlay = message.underlay;
          this.lanes = message.lanes;
          this.unraised = message.unraised;
          this.laneLack = message.laneLack;
          for (const note of message.notes) log.warn(note);
          isReady = true;
          resolve();
        }
      });
      this.#worker.on("error", fail);
      this.#worker.on("exit", (code) => fail(new Error(`the data path's worker ended with status ${code}`)));
    });
  }

  #settle(id: number, settle: (pending: Pending) => void): void {
    const pending = this.#pending.get(id);
    this.#pending.delete(id);
    if (pending !== undefined) settle(pending);
  }
}
