// Exports on this manager's disk: one a day, and one before each change of the store and its members. The newest are kept.
import { mkdir, readdir, rm, stat } from "node:fs/promises";
import { join } from "node:path";
import type { State } from "../cluster/tables.ts";
import { type ExportLock, secretsPath, writeExport } from "../leader/export-file.ts";
import { type Clock, systemClock, type Timer } from "../lib/clock.ts";
import { messageOf } from "../lib/errors.ts";
import type { Log } from "../lib/log.ts";
import type { ManagerKeys } from "../trust/identity-files.ts";
import { lock, unlock } from "../trust/sealed-text.ts";

const KEPT = 7;
const DAY_MS = 86_400_000;
const LOOK_MS = 3_600_000;
const CONTEXT = "overlayd export";
const SUFFIX = ".jsonl";

interface ExportsOptions {
  directory: string;
  passphrase: string;
  keys(): ManagerKeys;
  log: Log;
  clock?: Clock;
}

/** Why an export is written. */
type Occasion = "daily" | "before-change" | "before-upgrade" | "given-way";

export class Exports {
  readonly #options: Required<ExportsOptions>;
  #timer: Timer | undefined;

  constructor(options: ExportsOptions) {
    this.#options = { clock: systemClock, ...options };
  }

  /** Writes one a day of what `state` gives; it gives undefined while this manager has no whole state. */
  start(state: () => Promise<State | undefined>): void {
    this.#timer = this.#options.clock.after(LOOK_MS / 60, () => this.#look(state));
  }

  stop(): void {
    this.#timer?.cancel();
  }

  /** Returns the export's path. */
  async write(occasion: Occasion, state: State): Promise<string> {
    const { directory, clock } = this.#options;
    const time = new Date(clock.now()).toISOString().replaceAll(":", "-");
    const path = join(directory, `${occasion}-${time}-r${state.revision}${SUFFIX}`);
    await mkdir(directory, { recursive: true, mode: 0o700 });
    await this.writeTo(path, state);
    await this.#prune(occasion);
    return path;
  }

  writeTo(path: string, state: State): Promise<void> {
    const { keys, passphrase, clock } = this.#options;
    return writeExport(path, { state, keys: keys(), lock: exportLock(passphrase), now: clock.now() });
  }

  /** The newest export on this disk. */
  async newest(): Promise<{ path: string; at: number } | null> {
    const { directory } = this.#options;
    const all = await Promise.all(
      (await this.#names("")).map(async (name) => ({
        path: join(directory, name),
        at: (await stat(join(directory, name))).mtimeMs,
      })),
    );
    return all.toSorted((a, b) => b.at - a.at)[0] ?? null;
  }

  async #look(state: () => Promise<State | undefined>): Promise<void> {
    const { clock, log, directory } = this.#options;
    try {
      const last = (await this.#names("daily-")).at(-1);
      const at = last === undefined ? 0 : (await stat(join(directory, last))).mtimeMs;
      const whole = clock.now() - at < DAY_MS ? undefined : await state();
      if (whole !== undefined && whole.cluster !== null) await this.write("daily", whole);
    } catch (error) {
      log.error("the daily export was not written", { path: directory, reason: messageOf(error) });
    }
    this.#timer = clock.after(LOOK_MS, () => this.#look(state));
  }

  /** The names of exports that begin so, the oldest first. */
  async #names(prefix: string): Promise<string[]> {
    const names = await readdir(this.#options.directory).catch(() => []);
    return names.filter((name) => name.startsWith(prefix) && name.endsWith(SUFFIX)).toSorted();
  }

  async #prune(occasion: Occasion): Promise<void> {
    for (const name of (await this.#names(`${occasion}-`)).slice(0, -KEPT)) {
      const path = join(this.#options.directory, name);
      await rm(path, { force: true });
      await rm(secretsPath(path), { force: true });
    }
  }
}

/** Locks the second file of an export with the passphrase of the managers' keys. */
export function exportLock(passphrase: string): ExportLock {
  return {
    lock: (text) => lock(passphrase, text, CONTEXT),
    unlock: (text) => unlock(passphrase, text, CONTEXT),
  };
}
