// A node's last snapshot on its disk: a line with what it is, its length and its SHA-256, then JSON. It is replaced
// whole, so that a reader finds the old one or the new one.
import { createHash } from "node:crypto";
import { mkdir, open, readFile, rename } from "node:fs/promises";
import { dirname } from "node:path";
import { z } from "zod";
import { Id } from "../cluster/schema.ts";
import { type LiveState, stateFromJson, stateToJson } from "../cluster/state.ts";
import { messageOf } from "../lib/errors.ts";
import type { Log } from "../lib/log.ts";

const FORMAT = "overlayd-snapshot-1";
const Content = z.object({ nodeId: Id, state: z.unknown() });

export interface Snapshot {
  /** The node that it was taken on. */
  nodeId: string;
  state: LiveState;
}

/** undefined when there is none. A damaged one is set aside as PATH.damaged, and logged. */
export async function readSnapshot(path: string, log: Log): Promise<Snapshot | undefined> {
  let bytes: Buffer;
  try {
    bytes = await readFile(path);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    throw error;
  }
  try {
    return decode(bytes);
  } catch (error) {
    const aside = `${path}.damaged`;
    await rename(path, aside);
    log.error(`the snapshot is damaged and was set aside as ${aside}`, { path, reason: messageOf(error) });
    return undefined;
  }
}

/** Keeps the file at the newest snapshot: what arrives while it writes is written after, the last one alone. */
export class SnapshotWriter {
  readonly #path: string;
  readonly #log: Log;
  #newest: Snapshot | undefined;
  #writing: Promise<void> | undefined;

  constructor(path: string, log: Log) {
    this.#path = path;
    this.#log = log;
  }

  write(snapshot: Snapshot): void {
    this.#newest = snapshot;
    this.#writing ??= this.#writeAll();
  }

  async settled(): Promise<void> {
    await this.#writing;
  }

  async #writeAll(): Promise<void> {
    for (let written: Snapshot | undefined; written !== this.#newest; ) {
      const snapshot = this.#newest!;
      try {
        await writeSnapshot(this.#path, snapshot);
      } catch (error) {
        this.#log.error("the snapshot cannot be written", { path: this.#path, err: error });
      }
      written = snapshot;
    }
    this.#writing = undefined;
  }
}

/** Durable when it resolves. */
export async function writeSnapshot(path: string, { nodeId, state }: Snapshot): Promise<void> {
  const body = Buffer.from(JSON.stringify({ nodeId, state: stateToJson(state) }));
  const temporary = `${path}.new`;
  await mkdir(dirname(path), { recursive: true });
  const file = await open(temporary, "w", 0o600);
  try {
    await file.writeFile(Buffer.concat([Buffer.from(`${FORMAT} ${body.length} ${digestOf(body)}\n`), body]));
    await file.sync();
  } finally {
    await file.close();
  }
  await rename(temporary, path);
  const directory = await open(dirname(path), "r");
  try {
    await directory.sync();
  } finally {
    await directory.close();
  }
}

function decode(bytes: Buffer): Snapshot {
  const end = bytes.indexOf("\n");
  const [format, length, digest] = bytes.subarray(0, Math.max(0, end)).toString().split(" ");
  const body = bytes.subarray(end + 1);
  if (format !== FORMAT) throw new Error("it does not begin as a snapshot");
  if (body.length !== Number(length)) throw new Error(`it has ${body.length} bytes of ${length}`);
  if (digestOf(body) !== digest) throw new Error("its checksum is wrong");
  const { nodeId, state } = Content.parse(JSON.parse(body.toString()));
  return { nodeId, state: stateFromJson(state) };
}

function digestOf(body: Buffer): string {
  return createHash("sha256").update(body).digest("hex");
}
