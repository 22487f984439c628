// Where an agent keeps its files, except for its flows (flow-file.ts).
import { join } from "node:path";
import type { Config } from "./config.ts";

export interface Paths {
  snapshot: string;
  /** The bpf file system with the express lane's pins. */
  bpf: string;
  tasks: string;
  run: string;
  /** Containers that were detached by hand. */
  detached: string;
  /** The directory's own id. */
  id: string;
  /** Keys and certificates, see trust/identity-files.ts. */
  identity: string;
  /** It is there while the node leaves its cluster. */
  leaving: string;
  /** See node-settings.ts. */
  settings: string;
  /** The state that this node leads with, when it is a manager. */
  store: string;
  /** A standby's copy of the leader's state. */
  copy: string;
  /** This manager's etcd. */
  etcd: string;
  /** Exports of all clusters that the node was in, see own-exports.ts. */
  exports: string;
  /** See took-over.ts. */
  tookOver: string;
  /** See upgrade-export.ts. */
  ledBy: string;
}

export function pathsOf(config: Config): Paths {
  const { dataDir } = config;
  return {
    snapshot: join(dataDir, "snapshot.json"),
    bpf: join(dataDir, "bpf"),
    tasks: join(dataDir, "tasks"),
    run: join(dataDir, "run"),
    detached: join(dataDir, "detached.json"),
    id: join(dataDir, "id"),
    identity: join(dataDir, "identity"),
    leaving: join(dataDir, "leaving"),
    settings: join(dataDir, "settings.json"),
    store: join(dataDir, "store"),
    copy: join(dataDir, "copy"),
    etcd: join(dataDir, "etcd"),
    exports: join(dataDir, "exports"),
    tookOver: join(dataDir, "took-over.json"),
    ledBy: join(dataDir, "led-by"),
  };
}
