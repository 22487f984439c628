// Where an agent keeps its files.
import { createHash } from "node:crypto";
import { mkdirSync, statfsSync } from "node:fs";
import { join } from "node:path";
import { FlowTable } from "../datapath/flow-table.ts";
import type { Config } from "./config.ts";

const TMPFS_MAGIC = 0x01021994;
const SHARED_MEMORY = "/dev/shm";

export interface Places {
  /** The flow table, mapped. */
  flows: string;
  snapshot: string;
  tasks: string;
  run: string;
  /** What was detached by hand. */
  letGo: string;
  /** The directory's own id. */
  id: string;
}

export function places(config: Config): Places {
  const { dataDir } = config;
  return {
    flows: config.datapath.flowFile ?? defaultFlowFile(config),
    snapshot: join(dataDir, "snapshot.json"),
    tasks: join(dataDir, "tasks"),
    run: join(dataDir, "run"),
    letGo: join(dataDir, "detached.json"),
    id: join(dataDir, "id"),
  };
}

/** Told by the data directory, for several nodes may share a machine. */
export function flowFileInSharedMemory(dataDir: string): string {
  const digest = createHash("sha256").update(dataDir).digest("hex").slice(0, 12);
  return join(SHARED_MEMORY, `overlayd-${digest}.flows`);
}

/** On tmpfs where there is one with room, for a disk would write every change back; else with the other files. */
function defaultFlowFile({ dataDir, datapath }: Config): string {
  mkdirSync(dataDir, { recursive: true, mode: 0o700 });
  try {
    const { type, bavail, bsize } = statfsSync(SHARED_MEMORY);
    if (type === TMPFS_MAGIC && bavail * bsize > 2 * FlowTable.bytesFor(datapath.flows))
      return flowFileInSharedMemory(dataDir);
  } catch {
    // No such place here.
  }
  return join(dataDir, "flows");
}
