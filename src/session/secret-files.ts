// The secrets that this node holds: registry credentials of the services that it has tasks of. Each is a file in a directory
// that is in memory and that only its owner may open, so that they outlive the agent, but not the machine's next start.
import { chmod, lstat, mkdir, readdir, readFile, rm, statfs } from "node:fs/promises";
import { join } from "node:path";
import type { Change, Service } from "../cluster/schema.ts";
import { hasSecret, isWithheld, partedRow, wholeRow } from "../cluster/secret-rows.ts";
import type { State } from "../cluster/tables.ts";
import { Id } from "../lib/bounds.ts";
import { messageOf } from "../lib/errors.ts";
import type { Log } from "../lib/log.ts";
import { replaceFile } from "../lib/replace-file.ts";
import { Turns } from "../lib/turns.ts";

const OWNER_ONLY = 0o700;
/** statfs(2). */
const IN_MEMORY: ReadonlySet<number> = new Set([0x01021994, 0x858458f6]); // tmpfs, ramfs

export class SecretFiles {
  readonly #directory: string;
  readonly #log: Log;
  readonly #turns = new Turns();
  // BOUNDED: by the services with secrets that this node has tasks of. What the files hold, by service id.
  readonly #kept = new Map<string, string>();

  constructor(directory: string, log: Log) {
    this.#directory = directory;
    this.#log = log;
  }

  /** Adds to a state from the disk the secrets that this node still holds. */
  async restore(state: State): Promise<Change[]> {
    const ids = await readdir(this.#directory).catch(() => []);
    for (const id of ids) {
      if (Id.safeParse(id).success) this.#kept.set(id, await readFile(join(this.#directory, id), "utf8"));
    }
    return [...this.#kept].flatMap(([id, secret]): Change[] => {
      const service = state.services.get(id);
      if (service === undefined || !isWithheld(service)) return [];
      return [{ kind: "services", key: id, row: wholeRow("services", service, secret) as Service }];
    });
  }

  /** The state has changed: a new secret is kept, and one that this node may not have any more goes. */
  changed(changes: readonly Change[]): void {
    for (const { kind, key, row } of changes) {
      if (kind !== "services") continue;
      const secret = row !== null && hasSecret(row) ? partedRow("services", row)?.secret : undefined;
      if (this.#kept.get(key) === secret) continue;
      if (secret === undefined) this.#kept.delete(key);
      else this.#kept.set(key, secret);
      this.#own(this.#turns.run(() => this.#write(key)));
    }
  }

  /** A leader's whole state has come: what of it this node may not have goes. Loops over the secrets that are kept. */
  keepOnly({ services }: Pick<State, "services">): void {
    const gone = [...this.#kept.keys()].filter((id) => {
      const service = services.get(id);
      return service === undefined || !hasSecret(service);
    });
    this.changed(gone.map((key) => ({ kind: "services", key, row: null })));
  }

  /** Resolves when nothing is being written any more. */
  async settled(): Promise<void> {
    await this.#turns.settled();
  }

  /** For a node that leaves its cluster. */
  async remove(): Promise<void> {
    this.#kept.clear();
    await rm(this.#directory, { recursive: true, force: true });
  }

  /** Makes the service's file what is to be kept now. */
  async #write(id: string): Promise<void> {
    const secret = this.#kept.get(id);
    const path = join(this.#directory, id);
    if (secret === undefined) {
      await rm(path, { force: true });
      return;
    }
    await this.#makeDirectory();
    const { type } = await statfs(this.#directory);
    if (!IN_MEMORY.has(type)) throw new Error("it is not in memory: a tmpfs is needed there");
    await replaceFile(path, secret);
  }

  /** The directory above it is there, and no other user writes to that. */
  async #makeDirectory(): Promise<void> {
    await mkdir(this.#directory, { mode: OWNER_ONLY }).catch((error: NodeJS.ErrnoException) => {
      if (error.code !== "EEXIST") throw error;
    });
    const found = await lstat(this.#directory);
    if (!found.isDirectory() || found.uid !== process.geteuid?.()) throw new Error("another user made it");
    await chmod(this.#directory, OWNER_ONLY);
  }

  #own(work: Promise<void>): void {
    work.catch((error: unknown) => {
      this.#log.warn(
        "registry credentials are not kept over a restart of the agent: until a manager answers, no image is pulled with them",
        { path: this.#directory, reason: messageOf(error) },
      );
    });
  }
}
