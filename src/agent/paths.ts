// Where an agent keeps its files, except for its flows (flow-file.ts).
import { join } from "node:path";
import type { Config } from "./config.ts";

export interface Paths {
  snapshot: string;
  tasks: string;
  run: string;
  /** Containers that were detached by hand. */
  detached: string;
  /** The directory's own id. */
  id: string;
}

export function pathsOf(config: Config): Paths {
  const { dataDir } = config;
  return {
    snapshot: join(dataDir, "snapshot.json"),
    tasks: join(dataDir, "tasks"),
    run: join(dataDir, "run"),
    detached: join(dataDir, "detached.json"),
    id: join(dataDir, "id"),
  };
}
