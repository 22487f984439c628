// Exports on this manager's disk: one a day, and one before each change of the store and its members. The newest are kept.
import { mkdir, readdir, rm, stat } from "node:fs/promises";
import { join, parse } from "node:path";
import type { State } from "../cluster/tables.ts";
import { type ExportLock, secretsPath, writeExport } from "../leader/export-file.ts";
import { type Clock, systemClock, type Timer } from "../lib/clock.ts";
import { messageOf, UserError } from "../lib/errors.ts";
import { exists } from "../lib/exists.ts";
import type { Log } from "../lib/log.ts";
import { Turns } from "../lib/turns.ts";
import type { ManagerKeys } from "../trust/identity-files.ts";
import { lock, unlock } from "../trust/sealed-text.ts";

const KEPT = 7;
const DAY_MS = 86_400_000;
const LOOK_MS = 3_600_000;
const CONTEXT = "overlayd export";
const SUFFIX = ".jsonl";
/** The name of an export here, of its second file, or of what a write that broke off left of either. */
const NAME = /^([a-z-]+)-(\d{4}-\d\d-\d\d)T(\d\d)-(\d\d)-(\d\d\.\d{3}Z)-r\d+\.jsonl((?:\.secrets)?(?:\.new)?)$/;

interface ExportsOptions {
  directory: string;
  passphrase: string;
  keys(): ManagerKeys;
  log: Log;
  clock?: Clock;
}

/** Why an export is written. */
type Occasion = "daily" | "before-change" | "before-upgrade" | "given-way";

/** An export on this disk, by its name. */
interface Named {
  name: string;
  /** Wall-clock milliseconds. */
  at: number;
}

export class Exports {
  readonly #options: Required<ExportsOptions>;
  readonly #writes = new Turns();
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
  write(occasion: Occasion, state: State): Promise<string> {
    return this.#writes.run(async () => {
      const { directory, clock } = this.#options;
      const name = `${occasion}-${fileTime(clock.now())}-r${state.revision}${SUFFIX}`;
      await mkdir(directory, { recursive: true, mode: 0o700 });
      await this.#write(join(directory, name), state);
      await this.#prune(occasion, name);
      return join(directory, name);
    });
  }

  /** For an operator. Throws UserError 409 when there is a file already: it may be the one good backup. */
  writeTo(path: string, state: State): Promise<void> {
    return this.#writes.run(async () => {
      await requireFree(path, this.#options.clock.now());
      await this.#write(path, state);
    });
  }

  /** The newest export on this disk. */
  newest(): Promise<{ path: string; at: number } | null> {
    const { directory, clock } = this.#options;
    return newestExport(directory, clock.now());
  }

  #write(path: string, state: State): Promise<void> {
    const { keys, passphrase, clock } = this.#options;
    return writeExport(path, { state, keys: keys(), lock: exportLock(passphrase), now: clock.now() });
  }

  async #look(state: () => Promise<State | undefined>): Promise<void> {
    const { clock, log, directory } = this.#options;
    try {
      const ageMs = clock.now() - ((await namedIn(directory, clock.now(), "daily")).at(-1)?.at ?? 0);
      const isOfToday = ageMs >= 0 && ageMs < DAY_MS;
      const whole = isOfToday ? undefined : await state();
      if (whole !== undefined && whole.cluster !== null) await this.write("daily", whole);
    } catch (error) {
      log.error("the daily export was not written", { path: directory, reason: messageOf(error) });
    }
    this.#timer = clock.after(LOOK_MS, () => this.#look(state));
  }

  /** Keeps the newest, `written` among them, and removes what else there is, also of writes that broke off. */
  async #prune(occasion: Occasion, written: string): Promise<void> {
    const { directory, clock } = this.#options;
    const others = (await namedIn(directory, clock.now(), occasion))
      .map(({ name }) => name)
      .filter((name) => name !== written);
    const kept = [written, ...others.slice(1 - KEPT)].flatMap((name) => [name, secretsPath(name)]);
    for (const name of await readdir(directory)) {
      if (namedOf(name, occasion) !== undefined && !kept.includes(name))
        await rm(join(directory, name), { force: true });
    }
  }
}

/** The newest export of the directory; null: it has none. */
export async function newestExport(directory: string, now: number): Promise<{ path: string; at: number } | null> {
  const last = (await namedIn(directory, now)).at(-1);
  return last === undefined ? null : { path: join(directory, last.name), at: last.at };
}

/**
 * The exports of an occasion, or all, the oldest first. Those of a time when the clock was ahead count as the oldest: newer
 * ones would never be kept beside them.
 */
async function namedIn(directory: string, now: number, occasion?: Occasion): Promise<Named[]> {
  const rank = ({ at }: Named): number => (at > now ? at - Number.MAX_SAFE_INTEGER : at);
  const names = await readdir(directory).catch(() => []);
  return names
    .filter((name) => name.endsWith(SUFFIX))
    .flatMap((name) => namedOf(name, occasion) ?? [])
    .toSorted((a, b) => rank(a) - rank(b));
}

/** undefined: it is no name of an export, or that of another occasion. */
function namedOf(name: string, occasion?: Occasion): Named | undefined {
  const [, of, day, hour, minute, second] = NAME.exec(name) ?? [];
  if (of === undefined || (occasion !== undefined && of !== occasion)) return undefined;
  return { name, at: Date.parse(`${day}T${hour}:${minute}:${second}`) };
}

/** The time as a name of a file has it. */
function fileTime(ms: number): string {
  return new Date(ms).toISOString().replaceAll(":", "-");
}

/** Throws UserError 409 when either file of the export is there. */
async function requireFree(path: string, now: number): Promise<void> {
  const isDirectory = await stat(path).then(
    (found) => found.isDirectory(),
    () => false,
  );
  if (isDirectory) {
    throw new UserError(
      409,
      `'${path}' is a directory: name a file in it, as 'overlayctl cluster export ${join(path, `cluster-${fileTime(now)}${SUFFIX}`)}' does`,
    );
  }
  const { dir, name, ext } = parse(path);
  for (const one of [path, secretsPath(path)]) {
    if (!(await exists(one))) continue;
    throw new UserError(
      409,
      `'${one}' exists, and no export is written over another file: move it away first, or keep both with ` +
        `'overlayctl cluster export ${join(dir, `${name}-${fileTime(now)}${ext}`)}'`,
    );
  }
}

/** Locks the second file of an export with the passphrase of the managers' keys. */
export function exportLock(passphrase: string): ExportLock {
  return {
    lock: (text) => lock(passphrase, text, CONTEXT),
    unlock: (text) => unlock(passphrase, text, CONTEXT),
  };
}
