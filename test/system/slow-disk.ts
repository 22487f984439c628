// A disk that is really slow for one node's processes: the kernel lets them write to it a few times a second (blkio, cgroup v1).
import { existsSync, mkdirSync, readFileSync, rmdirSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { waitFor } from "./command.ts";
import type { LabNode } from "./lab.ts";

const BLKIO = "/sys/fs/cgroup/blkio";
const LIMIT = "blkio.throttle.write_iops_device";
/** A write that is made durable takes three of them. */
const WRITES_A_SECOND = 4;

/** Why no disk can be made slow here; undefined: it can. */
export function whyNoSlowDisk(directory: string): string | undefined {
  if (!existsSync(join(BLKIO, LIMIT))) return "no blkio of cgroup v1, which makes a disk slow";
  return existsSync(`/sys/dev/block/${deviceOf(directory)}`) ? undefined : `${directory} is on no disk`;
}

/** The node's agent, and what it starts from now on, write slowly until the result is called. */
export function makeDiskSlow(node: LabNode): () => void {
  const group = join(BLKIO, `overlayd-lab-${node.name}`);
  mkdirSync(group, { recursive: true }); // a run that was killed left it
  const device = deviceOf(node.directory);
  writeFileSync(join(group, LIMIT), `${device} ${WRITES_A_SECOND}`);
  writeFileSync(join(group, "cgroup.procs"), `${node.agentPid}`);
  return () => writeFileSync(join(group, LIMIT), `${device} 0`);
}

/** To be called when the node's processes have been ended. */
export async function removeSlowDisk(node: LabNode): Promise<void> {
  const group = join(BLKIO, `overlayd-lab-${node.name}`);
  if (!existsSync(group)) return;
  const isEmpty = () => readFileSync(join(group, "cgroup.procs"), "utf8") === "";
  await waitFor(isEmpty, { what: `the processes of ${node.name} to have ended` });
  rmdirSync(group);
}

/** MAJOR:MINOR of the disk that the directory is on, as makedev(3) puts them together. */
function deviceOf(directory: string): string {
  const { dev } = statSync(directory);
  return `${(dev >> 8) & 0xfff}:${(dev & 0xff) | ((dev >> 12) & 0xfff00)}`;
}
