// Containers that ask by their labels to be attached and cannot be. Each reason is logged once and shown by the API, and
// attaching is tried again when the cluster or the time may have changed the answer.
import type { State } from "../cluster/tables.ts";
import type { Clock } from "../lib/clock.ts";
import type { Log } from "../lib/log.ts";
import type { Container } from "../runtime/docker-engine.ts";

const RETRY_MS = 5000;

export interface RejectedContainer {
  container: Container;
  error: string;
}

interface Entry extends RejectedContainer {
  /** Labels never change: an error in them stays. */
  isFinal: boolean;
  judgedBy: Versions;
  /** Monotonic milliseconds. */
  at: number;
}

/** The versions of the tables that decide whether a container can be attached. */
type Versions = readonly [networks: number, services: number];

export function versionsOf({ networks, services }: State): Versions {
  return [networks.version, services.version];
}

export class RejectedContainers {
  readonly #clock: Clock;
  readonly #log: Log;
  // BOUNDED: by the engine's containers that run, see keepOnly(); keyed by container id.
  readonly #entries = new Map<string, Entry>();

  constructor({ clock, log }: { clock: Clock; log: Log }) {
    this.#clock = clock;
    this.#log = log;
  }

  /** Whether to try: for the first time, or because networks or services have changed or some time has gone. */
  isDue({ id, startedAt }: Container, now: Versions): boolean {
    const entry = this.#entries.get(id);
    if (entry === undefined || entry.container.startedAt !== startedAt) return true;
    if (entry.isFinal) return false;
    const isSame = entry.judgedBy.every((version, i) => version === now[i]);
    return !isSame || this.#clock.monotonic() - entry.at >= RETRY_MS;
  }

  /** `judgedBy`: the versions from before it was judged. */
  add(container: Container, judgedBy: Versions, error: string, isFinal: boolean): void {
    if (this.#entries.get(container.id)?.error !== error)
      this.#log.warn("a container is not attached", { endpoint: container.name, reason: error });
    this.#entries.set(container.id, { container, error, isFinal, judgedBy, at: this.#clock.monotonic() });
  }

  forget(id: string): void {
    this.#entries.delete(id);
  }

  keepOnly(isKept: (id: string) => boolean): void {
    for (const id of this.#entries.keys()) if (!isKept(id)) this.#entries.delete(id);
  }

  get size(): number {
    return this.#entries.size;
  }

  all(): readonly RejectedContainer[] {
    return [...this.#entries.values()];
  }
}
