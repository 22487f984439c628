// The backup of a cluster: its state as lines of JSON, and beside it a second, locked file with what not every reader may
// see. The first line says which cluster and revision it is of, the last one has the digest of all before: a file that was
// cut or changed is refused.
import { createHash } from "node:crypto";
import { open, readFile, rm } from "node:fs/promises";
import { z } from "zod";
import { ClusterIdentity, type Kind, type RowOf } from "../cluster/schema.ts";
import { commonRow } from "../cluster/secret-rows.ts";
import { changesTo, emptyState, type LiveState, parseChanges } from "../cluster/state.ts";
import type { State } from "../cluster/tables.ts";
import { counted } from "../lib/counted.ts";
import { messageOf, UserError } from "../lib/errors.ts";
import { replaceFile } from "../lib/replace-file.ts";

const FORMAT = 1;
/** More than the first line has. */
const MOST_HEADER_BYTES = 4096;
const WHOSE_PASSPHRASE =
  "it is that of the manager that wrote the export: '--passphrase-file' with a copy of its identity/passphrase";
/** Kinds whose rows are secrets themselves. */
const SECRET_KINDS: ReadonlySet<string> = new Set(["tokens"]);

const Header = z.object({
  overlayd: z.literal("export"),
  format: z.int(),
  cluster: ClusterIdentity,
  revision: z.int().min(0),
  rows: z.int().min(0),
  createdAt: z.string(),
});
const Footer = z.object({ digest: z.string() });

const Secrets = z.object({
  /** The digest of the file that it belongs to. */
  of: z.string(),
  rows: z.array(z.unknown()),
  /** What managers keep on their disks, see trust/identity-files.ts. */
  keys: z.unknown(),
});

/** How the second file is locked: with the passphrase of the managers' keys. */
export interface ExportLock {
  lock(text: string): Promise<string>;
  /** Throws when the passphrase is wrong. */
  unlock(text: string): Promise<string>;
}

interface Export {
  state: LiveState;
  /** What `writeExport` was given. */
  keys: unknown;
}

export function secretsPath(path: string): string {
  return `${path}.secrets`;
}

/** Writes both files, or neither; they are durable when it resolves. `keys`: what a manager needs besides the state. */
export async function writeExport(
  path: string,
  { state, keys, lock, now }: { state: State; keys: unknown; lock: ExportLock; now: number },
): Promise<void> {
  const changes = changesTo(state);
  const open = changes.map(({ kind, key, row }) => {
    const shown = SECRET_KINDS.has(kind) ? null : commonRow(kind, row as RowOf<Kind>);
    return { kind, key, row: shown };
  });
  const shown = open.filter(({ row }) => row !== null);
  const header = {
    overlayd: "export",
    format: FORMAT,
    cluster: state.cluster,
    revision: state.revision,
    rows: shown.length,
    createdAt: new Date(now).toISOString(),
  };
  const hash = createHash("sha256");
  const lines = [header, ...shown].map((line) => `${JSON.stringify(line)}\n`);
  for (const line of lines) hash.update(line);
  const digest = hash.digest("hex");
  const rows = changes.filter(({ row }, i) => open[i]!.row !== row);
  // The file that says what is whole comes last.
  await replaceFile(secretsPath(path), `${await lock.lock(JSON.stringify({ of: digest, rows, keys }))}\n`);
  try {
    await replaceFile(path, [...lines, `${JSON.stringify({ digest })}\n`]);
  } catch (error) {
    await rm(secretsPath(path), { force: true }); // on a full disk it would keep the room
    throw error;
  }
}

/** Reads what `writeExport` wrote, all of it or nothing. Throws UserError 400 that says what is wrong with it. */
export async function readExport(path: string, lock: ExportLock): Promise<Export> {
  const text = await readText(path);
  const { header, changes, digest } = parseLines(path, text);
  const secrets = await readSecrets(path, digest, lock);
  const state = emptyState();
  state.apply([...changes, ...parseRows(secretsPath(path), secrets.rows)], header.revision);
  state.cluster = header.cluster;
  return { state, keys: secrets.keys };
}

/** The id of the cluster that an export is of, by its first line; undefined: the file does not begin as an export. */
export async function clusterOfExport(path: string): Promise<string | undefined> {
  const file = await open(path);
  try {
    const { buffer, bytesRead } = await file.read({ buffer: Buffer.alloc(MOST_HEADER_BYTES) });
    const [first] = buffer.toString("utf8", 0, bytesRead).split("\n");
    return Header.safeParse(jsonOf(first!)).data?.cluster.id;
  } finally {
    await file.close();
  }
}

/** What `writeExport` was given as `keys`, from the second file alone. Throws with what is wrong with that. */
export async function readExportedKeys(path: string, lock: ExportLock): Promise<unknown> {
  try {
    const locked = await readFile(secretsPath(path), "utf8");
    return Secrets.parse(JSON.parse(await lock.unlock(locked.trim()))).keys;
  } catch (cause) {
    throw new Error(`${secretsPath(path)} cannot be used: ${messageOf(cause)}`, { cause });
  }
}

function parseLines(path: string, text: string) {
  const end = text.lastIndexOf("\n", text.length - 2) + 1;
  const [body, last] = [text.slice(0, end), text.slice(end)];
  const footer = Footer.safeParse(jsonOf(last));
  if (!footer.success || !text.endsWith("\n")) throw refused(path, "its last line is missing: it was cut");
  const { digest } = footer.data;
  if (createHash("sha256").update(body).digest("hex") !== digest) {
    throw refused(path, "it is not what was written: its digest is another");
  }
  const [first, ...lines] = body.trimEnd().split("\n");
  const header = Header.safeParse(jsonOf(first ?? ""));
  if (!header.success) throw refused(path, "its first line is not that of an export");
  if (header.data.format !== FORMAT) {
    throw refused(path, `it has format ${header.data.format}, and this version reads format ${FORMAT}`);
  }
  if (header.data.rows !== lines.length) {
    throw refused(path, `it should have ${counted(header.data.rows, "row")}, and has ${lines.length}`);
  }
  return { header: header.data, changes: parseRows(path, lines.map(jsonOf)), digest };
}

async function readSecrets(path: string, digest: string, lock: ExportLock): Promise<z.infer<typeof Secrets>> {
  const secret = secretsPath(path);
  const locked = await readText(secret);
  let text: string;
  try {
    text = await lock.unlock(locked.trim());
  } catch (cause) {
    throw refused(secret, `${messageOf(cause)}; ${WHOSE_PASSPHRASE}`, cause);
  }
  const secrets = Secrets.safeParse(jsonOf(text));
  if (!secrets.success) throw refused(secret, "it does not hold what an export has");
  if (secrets.data.of !== digest) throw refused(secret, `it belongs to another export than ${path}`);
  return secrets.data;
}

function parseRows(path: string, rows: readonly unknown[]) {
  try {
    return parseChanges(rows);
  } catch (cause) {
    throw refused(path, `it has a row that this version cannot read: ${messageOf(cause)}`, cause);
  }
}

async function readText(path: string): Promise<string> {
  try {
    return await readFile(path, "utf8");
  } catch (cause) {
    const why = (cause as NodeJS.ErrnoException).code === "ENOENT" ? "there is no such file" : messageOf(cause);
    throw refused(path, why, cause);
  }
}

function jsonOf(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

function refused(path: string, why: string, cause?: unknown): UserError {
  return new UserError(400, `'${path}' is not imported, and nothing was changed: ${why}`, { cause });
}
