// Packets that the table's guards stop in the kernel, before the data path could count them: a counter for each reason.
import { run } from "../lib/command.ts";

/** As nftables names its counters. */
export const KERNEL_DROPS = {
  /** Left over on a container's link: not from its own address, or not IPv4. */
  leftover: "container_leftover",
  /** From outside with a source of the pool. */
  forged: "forged_pool_source",
  /** Of a network without a way out, to the outside. */
  internal: "internal_way_out",
  /** A reply that would begin a connection of its own. */
  stray: "stray_reply",
} as const;

export type DropCounts = Record<string, number>;

/** By the names that a person reads; all 0 where there is no such table. Throws CommandError. */
export async function readKernelDrops(table: string): Promise<DropCounts> {
  const { nftables } = JSON.parse(await run(["nft", "-j", "list", "counters"])) as {
    nftables: { counter?: { family: string; table: string; name: string; packets: number } }[];
  };
  const counts: DropCounts = {};
  for (const name of Object.values(KERNEL_DROPS)) {
    const found = nftables.find(
      ({ counter }) => counter?.family === "ip" && counter.table === table && counter.name === name,
    );
    counts[name.replaceAll("_", "-")] = found?.counter?.packets ?? 0;
  }
  return counts;
}

export function addDrops(one: DropCounts, other: DropCounts): DropCounts {
  return Object.fromEntries(Object.entries(other).map(([name, count]) => [name, count + (one[name] ?? 0)]));
}
