// Follows Docker's events about containers for as long as the agent runs, while Docker goes away and comes back.
//
//   connecting --stream opened--> up --stream ended--> away --stream opened--> up
//       +------ no answer -------------------------------^
import { type Clock, delay } from "../lib/clock.ts";
import { messageOf } from "../lib/errors.ts";
import type { Log } from "../lib/log.ts";
import { type ContainerEvent, type DockerEngine, DockerError } from "./docker-engine.ts";
import { AwayError } from "./runtime.ts";

const RETRY_MS = 1000;

export interface DockerListener {
  /** The stream of events is open. Events from before are missing, so that the listener must look. */
  opened(): void;
  happened(event: ContainerEvent): void;
  /** Docker does not answer, or no longer. */
  away?(): void;
}

interface DockerWatchOptions {
  engine: Pick<DockerEngine, "follow" | "socketPath">;
  clock: Clock;
  log: Log;
}

export class DockerWatch {
  readonly #engine: Pick<DockerEngine, "follow" | "socketPath">;
  readonly #clock: Clock;
  readonly #log: Log;
  readonly #stopping = new AbortController();
  // BOUNDED: by the agent's parts that listen.
  readonly #listeners = new Set<DockerListener>();
  #isUp = false;
  #back = new Signal();
  #run: Promise<void> | undefined;

  constructor({ engine, clock, log }: DockerWatchOptions) {
    this.#engine = engine;
    this.#clock = clock;
    this.#log = log;
  }

  get isUp(): boolean {
    return this.#isUp;
  }

  /** Calls `opened` at once when the stream is open already. Returns a function that ends the listening. */
  listen(listener: DockerListener): () => void {
    this.#listeners.add(listener);
    if (this.#isUp) listener.opened();
    return () => this.#listeners.delete(listener);
  }

  start(): void {
    this.#run ??= this.#follow();
  }

  async stop(): Promise<void> {
    this.#stopping.abort();
    this.#back.fire();
    await this.#run;
  }

  /** Makes a call of Docker. Throws AwayError when Docker does not answer, and what else the call throws. */
  async guard<T>(call: () => Promise<T>): Promise<T> {
    try {
      return await call();
    } catch (error) {
      if (!(error instanceof DockerError) || error.status !== undefined) throw error;
      throw new AwayError(
        `Docker does not answer on ${this.#engine.socketPath}: ${messageOf(error.cause)}`,
        this.#back.fired,
        { cause: error },
      );
    }
  }

  async #follow(): Promise<void> {
    const { signal } = this.#stopping;
    let logged: string | undefined;
    while (!signal.aborted) {
      let reason = "it ended the stream of events";
      try {
        await this.#engine.follow(
          signal,
          () => this.#opened(),
          (event) => this.#happened(event),
        );
      } catch (error) {
        reason = messageOf(error);
      }
      if (signal.aborted) return;
      // A node may have no Docker: that is said once, and is no warning.
      if (this.#isUp) this.#log.warn("Docker is away", { reason });
      else if (reason !== logged) this.#log.info("Docker does not answer", { reason });
      logged = reason;
      this.#isUp = false;
      for (const listener of this.#listeners) listener.away?.();
      await Promise.race([delay(this.#clock, RETRY_MS), this.#back.fired]);
    }
  }

  #opened(): void {
    this.#isUp = true;
    this.#log.info("Docker answers");
    this.#back.fire();
    this.#back = new Signal();
    for (const listener of this.#listeners) listener.opened();
  }

  #happened(event: ContainerEvent): void {
    for (const listener of this.#listeners) listener.happened(event);
  }
}

/** Fires once. */
class Signal {
  readonly fired: Promise<void>;
  #resolve: () => void = () => {};

  constructor() {
    this.fired = new Promise((resolve) => {
      this.#resolve = resolve;
    });
  }

  fire(): void {
    this.#resolve();
  }
}
