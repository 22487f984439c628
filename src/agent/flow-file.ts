// Where the flow table's file is: on tmpfs, because a disk would write every change back, and in a directory where root
// alone makes files, because a user who made the file could rewrite every translation.
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, rmdirSync, statfsSync } from "node:fs";
import { dirname, join } from "node:path";
import { FlowTable } from "../datapath/flow-table.ts";
import type { Log } from "../lib/log.ts";
import { makeOwnDirectory } from "../linux/own-directory.ts";
import { bringOver, isOnTmpfs, removeSharedFile } from "../linux/shared-file.ts";
import type { Config } from "./config.ts";

/** The directories that may be used, the best first. The first also has the API's socket. */
const DIRECTORIES = [
  { path: "/run/overlayd", mode: 0o755 },
  { path: "/dev/shm/overlayd", mode: 0o700 },
] as const;
/** The directory where older versions had the file. */
const SHARED_MEMORY = "/dev/shm";

/** The configuration that decides where flows may be. */
type FlowPlace = Pick<Config, "dataDir"> & { datapath: Pick<Config["datapath"], "flowFile"> };

/**
 * The file's path, in a directory that exists and that no other user writes to, unless the configuration names the file.
 * Takes over the file that an older version left in shared memory. Throws PlatformError.
 */
export function prepareFlowFile(config: Config, log: Log): string {
  const { dataDir, datapath } = config;
  if (datapath.flowFile !== undefined) return datapath.flowFile;
  const bytes = FlowTable.bytesFor(datapath.flows);
  const directory = DIRECTORIES.find(({ path }) => isOnTmpfs(dirname(path)) && hasRoom(path, dataDir, bytes));
  if (directory === undefined) mkdirSync(dataDir, { recursive: true, mode: 0o700 });
  else makeOwnDirectory(directory.path, directory.mode, log);
  const path = directory === undefined ? join(dataDir, "flows") : join(directory.path, nameFor(dataDir));
  bringOver(olderFile(dataDir), path, log);
  return path;
}

/** Removes the flows, wherever this version or an older one put them, and the directory of its own that is then empty. */
export function removeFlowFile({ dataDir, datapath: { flowFile } }: FlowPlace): void {
  for (const path of flowFilesOf(dataDir)) removeSharedFile(path);
  if (flowFile !== undefined) removeSharedFile(flowFile);
  for (const { path } of DIRECTORIES) removeIfEmpty(path);
}

/** All paths where flows of the agent with this data directory may be. */
export function flowFilesOf(dataDir: string): string[] {
  return [...DIRECTORIES.map(({ path }) => join(path, nameFor(dataDir))), join(dataDir, "flows"), olderFile(dataDir)];
}

/** Where the agent with this data directory has its secrets: beside the flows, in a directory of its own. */
export function prepareSecretsPlace(dataDir: string, log: Log): string {
  const [{ path, mode }] = DIRECTORIES;
  makeOwnDirectory(path, mode, log);
  return secretsOf(dataDir);
}

export function secretsOf(dataDir: string): string {
  return join(DIRECTORIES[0].path, nameFor(dataDir).replace(/flows$/, "secrets"));
}

/** The file's name, from the data directory, because several nodes may share a machine. */
function nameFor(dataDir: string): string {
  return `${createHash("sha256").update(dataDir).digest("hex").slice(0, 12)}.flows`;
}

function olderFile(dataDir: string): string {
  return join(SHARED_MEMORY, `overlayd-${nameFor(dataDir)}`);
}

/** The file that is there already has its room. */
function hasRoom(directory: string, dataDir: string, bytes: number): boolean {
  if (existsSync(join(directory, nameFor(dataDir)))) return true;
  const { bavail, bsize } = statfsSync(dirname(directory));
  return bavail * bsize > 2 * bytes;
}

function removeIfEmpty(path: string): void {
  try {
    rmdirSync(path);
  } catch {
    // Another node's files are in it, or the API's socket, or there is none.
  }
}
