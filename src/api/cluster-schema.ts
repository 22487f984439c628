// What the local API takes and answers about the managers and their store.
import { z } from "zod";
import { text } from "../lib/bounds.ts";

const MAX_PATH = 4096;
const AbsolutePath = text(MAX_PATH).startsWith("/", "an absolute path is needed: the file is on the manager's disk");

export const ExportRequest = z.strictObject({ path: AbsolutePath });
export const ImportRequest = z.strictObject({
  path: AbsolutePath,
  /** A file with the passphrase of the manager that wrote the export; left out: this node's own. */
  passphraseFile: AbsolutePath.optional(),
});
export type ImportRequest = z.infer<typeof ImportRequest>;
export const ForceRequest = z.strictObject({ force: z.boolean().default(false) });

interface EtcdView {
  /** running, waiting, failed or stopped. */
  process: string;
  pid: number | null;
  version: string | null;
  /** It does not vote yet. */
  learner: boolean;
  bytes: number;
}

export interface ManagerStatusView {
  node: string;
  /** HOST:PORT; null: it has not said. */
  address: string | null;
  self: boolean;
  role: "leader" | "standby" | "idle" | "unreachable";
  revision: number | null;
  /** null: it runs none. */
  etcd: EtcdView | null;
  newestExport: { path: string; at: number } | null;
  /** What is wrong, and what a person may do; null: nothing. */
  problem: string | null;
  mend: string | null;
}

export interface ClusterStatusView {
  cluster: string;
  epoch: number | null;
  revision: number;
  store: "file" | "etcd" | "external etcd";
  /** The leader's node; null: none answers. */
  leader: string | null;
  managers: ManagerStatusView[];
  warnings: string[];
}

export interface ExportView {
  path: string;
  revision: number;
}

export interface ImportView {
  cluster: string;
  epoch: number;
  revision: number;
}

export interface TakeoverView {
  epoch: number;
  revision: number;
  /** How many commits of the leader were not copied; null: it did not answer, so that is not known. */
  notCopied: number | null;
}

export interface RecoverView {
  epoch: number;
  revision: number;
}

export interface MoveView {
  store: "etcd" | "external etcd";
  revision: number;
  /** Managers whose etcd has the state. */
  members: string[];
  /** Managers that were not ready: their etcd is added when they are. */
  missing: string[];
  /** What was found on the managers' machines that is not as it should be. */
  warnings: string[];
}
