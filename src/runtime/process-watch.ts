// Notices within a second that a process has ended, whichever agent started it. Once a second the kernel is asked which of all
// processes have ended; where it cannot say so, each process's file under /proc is read instead.
import type { Clock, Timer } from "../lib/clock.ts";
import { messageOf } from "../lib/errors.ts";
import type { Log } from "../lib/log.ts";
import { isAlive, type ProcessId } from "./process-id.ts";

const EVERY_MS = 1000;

/** What the kernel tells of processes' ends (linux/process-ends.ts). */
interface Ends {
  /** Throws when the kernel cannot wait for this process. */
  add(pid: number): number;
  remove(handle: number): void;
  /** The handles of processes that have ended since the last call. */
  take(): number[];
}

interface ProcessWatchOptions {
  clock: Clock;
  log: Log;
  /** Left out: each process is read, as suits a few. */
  ends?: Ends;
}

interface Watched {
  id: ProcessId;
  onEnded: () => void;
  /** What the kernel knows it by; undefined: it is read each second, and that includes one that has ended. */
  handle: number | undefined;
}

export class ProcessWatch {
  readonly #clock: Clock;
  readonly #log: Log;
  readonly #ends: Ends | undefined;
  // BOUNDED: by the processes of this node's tasks, as are the next two.
  readonly #watched = new Set<Watched>();
  readonly #byHandle = new Map<number, Watched>();
  /** The processes that are looked at each second. */
  readonly #looked = new Set<Watched>();
  #timer: Timer | undefined;
  #hasWarned = false;

  constructor({ clock, log, ends }: ProcessWatchOptions) {
    this.#clock = clock;
    this.#log = log;
    this.#ends = ends;
  }

  /** Calls `onEnded` each second from the process's end on, until `close` of the answer is called. */
  watch(id: ProcessId, onEnded: () => void): { close(): void } {
    const watched: Watched = { id, onEnded, handle: this.#handleOf(id) };
    this.#watched.add(watched);
    if (watched.handle === undefined) this.#looked.add(watched);
    else this.#byHandle.set(watched.handle, watched);
    this.#timer ??= this.#lookLater();
    return { close: () => this.#forget(watched) };
  }

  /** undefined: it has ended, or the kernel cannot wait for it. */
  #handleOf(id: ProcessId): number | undefined {
    if (this.#ends === undefined || !isAlive(id)) return undefined;
    try {
      const handle = this.#ends.add(id.pid);
      if (isAlive(id)) return handle;
      this.#ends.remove(handle); // it may be that of a later process with the same number
    } catch (error) {
      if (!this.#hasWarned && isAlive(id)) {
        this.#log.warn("ends of processes are found by a look at each once a second", { reason: messageOf(error) });
        this.#hasWarned = true;
      }
    }
    return undefined;
  }

  #lookLater(): Timer {
    return this.#clock.after(EVERY_MS, () => {
      this.#timer = this.#lookLater();
      this.#look();
    });
  }

  /** Once a second; it costs the processes that have ended. */
  #look(): void {
    for (const handle of this.#ends?.take() ?? []) {
      const watched = this.#byHandle.get(handle);
      if (watched === undefined) continue;
      this.#byHandle.delete(handle);
      watched.handle = undefined;
      this.#looked.add(watched);
    }
    for (const watched of [...this.#looked]) if (!isAlive(watched.id)) watched.onEnded();
  }

  #forget(watched: Watched): void {
    this.#looked.delete(watched);
    if (watched.handle !== undefined) {
      this.#ends?.remove(watched.handle);
      this.#byHandle.delete(watched.handle);
      watched.handle = undefined;
    }
    if (!this.#watched.delete(watched) || this.#watched.size > 0) return;
    this.#timer?.cancel();
    this.#timer = undefined;
  }
}
