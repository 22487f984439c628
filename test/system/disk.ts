// A disk of its own for a node's data, which a test makes full: a tmpfs that is made as small as what is on it.
import { mkdirSync } from "node:fs";
import { statfs } from "node:fs/promises";
import { join } from "node:path";
import { run, tryRun, waitFor } from "./command.ts";
import type { LabNode } from "./lab.ts";

/** More than etcd wants to begin; what is not used takes no memory. */
const SIZE = "2g";

function dataOf(node: LabNode): string {
  return join(node.directory, "data");
}

export async function giveDisk(node: LabNode): Promise<void> {
  mkdirSync(dataOf(node), { recursive: true });
  await run(["mount", "-t", "tmpfs", "-o", `size=${SIZE},mode=700`, "overlayd-lab", dataOf(node)]);
}

/** From now on nothing more can be written to it. */
export async function fillDisk(node: LabNode): Promise<void> {
  const shrink = async (): Promise<boolean> => {
    const { blocks, bfree, bsize } = await statfs(dataOf(node));
    const size = (blocks - bfree) * bsize;
    return (await tryRun(["mount", "-o", `remount,size=${size}`, dataOf(node)])).status === 0;
  };
  // It is refused when something was written meanwhile.
  await waitFor(shrink, { what: `the disk of ${node.name} to be full`, everyMs: 10 });
}

export async function makeRoom(node: LabNode): Promise<void> {
  await run(["mount", "-o", `remount,size=${SIZE}`, dataOf(node)]);
}
