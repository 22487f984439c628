// A task's container, whichever agent started it: learns of its health and its end, and stops it.
import { type Clock, delay } from "../lib/clock.ts";
import { messageOf } from "../lib/errors.ts";
import type { Log } from "../lib/log.ts";
import { Turns } from "../lib/turns.ts";
import { tailOf } from "./container-log.ts";
import type { Container, DockerEngine } from "./docker-engine.ts";
import type { DockerWatch } from "./docker-watch.ts";
import { describeExit } from "./exit.ts";
import { untilListening } from "./listening.ts";
import type { ProcessId } from "./process-id.ts";
import type { ProcessWatch } from "./process-watch.ts";
import type { Exit, Running } from "./runtime.ts";

/** How long the end of a container that was stopped may be late. */
const LATE_MS = 1000;
/** How long Docker has to say how a process that is gone ended. */
const SAY_MS = 3000;
const MAX_OUTPUT_CHARS = 300;

interface WatchedContainerOptions {
  engine: DockerEngine;
  watch: DockerWatch;
  clock: Clock;
  log: Log;
  /** The container, as it was seen to run. */
  container: Container;
  /** The container that holds its network namespace. */
  pauseId: string;
  /** The container's first process; undefined when it could not be seen. */
  process: ProcessId | undefined;
  /** A container without a health check is ready when it listens on one of these; null: it was ready before. */
  ports: readonly number[] | null;
  processes: ProcessWatch;
}

export class WatchedContainer implements Running {
  readonly containerId: string;
  readonly startedAt: number;
  readonly ready: Promise<void> | null;
  readonly exited: Promise<Exit>;
  readonly #options: WatchedContainerOptions;
  #healthy: () => void = () => {};
  #exit: (exit: Exit) => void = () => {};
  readonly #ends: { close(): void } | undefined;
  readonly #looks = new Turns();
  #closed = false;
  /** When the process was first seen to be gone, in monotonic milliseconds. */
  #goneSince: number | undefined;

  constructor(options: WatchedContainerOptions) {
    const { container, clock, ports, process } = options;
    this.#options = options;
    this.containerId = container.id;
    this.startedAt = container.startedAt;
    this.exited = new Promise((resolve) => {
      this.#exit = resolve;
    });
    const becameHealthy = new Promise<void>((resolve) => {
      this.#healthy = resolve;
    });
    if (container.health === "starting") this.ready = becameHealthy;
    else if (container.health !== "none" || ports === null || process === undefined) this.ready = null;
    else this.ready = untilListening(clock, process.pid, ports);
    // Events tell of the end; its process does while Docker is away.
    if (process !== undefined) this.#ends = options.processes.watch(process, () => this.#processEnded());
    void this.look();
  }

  /** Whether the container is one of the task's two. */
  has(containerId: string): boolean {
    return containerId === this.containerId || containerId === this.#options.pauseId;
  }

  /** Looks at both containers, after an event or where one may have been missed. */
  look(): Promise<void> {
    return this.#looks.run(async () => {
      if (this.#closed) return;
      try {
        await this.#look();
      } catch (error) {
        // Meanwhile the poll watches the process.
        const { log, watch } = this.#options;
        if (watch.isUp) log.warn("a task's container cannot be looked at", { reason: messageOf(error) });
      }
    });
  }

  async stop(graceMs: number): Promise<void> {
    const { engine, clock } = this.#options;
    await engine.stop(this.containerId, graceMs);
    await this.look();
    // It has ended; what it printed last may be a moment late.
    await Promise.race([this.exited, delay(clock, LATE_MS)]);
  }

  /** Stops watching; the container goes on. */
  close(): void {
    this.#closed = true;
    this.#ends?.close();
  }

  /** Called each second from then on. */
  #processEnded(): void {
    if (this.#closed) return;
    const { watch, clock } = this.#options;
    this.#goneSince ??= clock.monotonic();
    if (watch.isUp) {
      void this.look();
      if (clock.monotonic() - this.#goneSince < SAY_MS) return;
    }
    const error = watch.isUp ? "it ended, and Docker does not say how" : "it ended while Docker was away";
    this.#end({ exitCode: null, error });
  }

  async #look(): Promise<void> {
    const { engine, pauseId } = this.#options;
    const [container, pause] = await Promise.all([engine.container(this.containerId), engine.container(pauseId)]);
    if (this.#closed) return;
    if (container === undefined) return this.#end({ exitCode: null, error: "its container was removed" });
    if (container.isRunning && container.startedAt !== this.startedAt)
      return this.#end({ exitCode: null, error: "its container was started again by another program" });
    if (!container.isRunning) {
      const printed = container.exitCode === 0 ? "" : await tailOf(engine, container);
      return this.#end(describeExit(container.exitCode, printed, container.oomKilled));
    }
    if (pause?.isRunning !== true)
      return this.#end({ exitCode: null, error: "the container that holds its network namespace is gone" });
    if (container.health === "unhealthy") {
      const output = container.healthOutput.trim().slice(-MAX_OUTPUT_CHARS);
      return this.#end({ exitCode: null, error: output === "" ? "unhealthy" : `unhealthy: ${output}` });
    }
    if (container.health !== "starting") this.#healthy();
  }

  #end(exit: Exit): void {
    this.close();
    this.#exit(exit);
  }
}
