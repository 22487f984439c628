// Snapshot files as tests find or leave them.
import { createHash } from "node:crypto";
import { writeFile } from "node:fs/promises";
import { stateToJson } from "../../src/cluster/state.ts";
import type { State } from "../../src/cluster/tables.ts";
import { replaceFile } from "../../src/lib/replace-file.ts";
import { encodeHead, LineEncoder } from "../../src/session/snapshot-file.ts";

/** Puts a file there that has a snapshot and no changes after it. `schema`: of a build whose rows have another form. */
export function putSnapshot(path: string, nodeId: string, state: State, schema?: string): Promise<void> {
  return replaceFile(path, encodeHead(nodeId, state, new LineEncoder(), schema));
}

/** Puts a file there as versions before wrote it: one line about the JSON that follows. */
export async function putEarlierSnapshot(path: string, nodeId: string, state: State): Promise<void> {
  const body = Buffer.from(JSON.stringify({ nodeId, state: stateToJson(state) }));
  const digest = createHash("sha256").update(body).digest("hex");
  await writeFile(path, Buffer.concat([Buffer.from(`overlayd-snapshot-1 ${body.length} ${digest}\n`), body]));
}
