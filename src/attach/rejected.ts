// Containers whose labels could not be followed: told once, shown to who asks, and tried again when there is a reason to.
import type { State } from "../cluster/schema.ts";
import type { Clock } from "../lib/clock.ts";
import type { Log } from "../lib/log.ts";
import type { Container } from "../runtime/docker-engine.ts";

const RETRY_MS = 5000;

export interface Refusal {
  container: Container;
  error: string;
}

interface Entry extends Refusal {
  /** Labels never change: what is wrong with them stays. */
  isFinal: boolean;
  /** What it was judged by. */
  judgedBy: Versions;
  at: number;
}

/** The versions of the tables that decide whether a container can be attached. */
type Versions = readonly [networks: number, services: number];

export function versionsOf({ networks, services }: State): Versions {
  return [networks.version, services.version];
}

export class Refusals {
  readonly #clock: Clock;
  readonly #log: Log;
  // BOUNDED: by the engine's containers that run, see keepOnly(); keyed by container id.
  readonly #entries = new Map<string, Entry>();

  constructor({ clock, log }: { clock: Clock; log: Log }) {
    this.#clock = clock;
    this.#log = log;
  }

  /** Whether to try: for the first time, or because the cluster is another or some time has gone. */
  isDue({ id, startedAt }: Container, now: Versions): boolean {
    const entry = this.#entries.get(id);
    if (entry === undefined || entry.container.startedAt !== startedAt) return true;
    if (entry.isFinal) return false;
    const isSame = entry.judgedBy.every((version, i) => version === now[i]);
    return !isSame || this.#clock.monotonic() - entry.at >= RETRY_MS;
  }

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

  all(): readonly Refusal[] {
    return [...this.#entries.values()];
  }
}
