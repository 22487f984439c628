// Packets that the table's guards stop in the kernel, before the data path could count them: a counter for each reason.

/** As nftables names its counters. */
export const KERNEL_DROPS = {
  /** Left over on a container's link: not from its own address, or not IPv4. */
  leftover: "container_leftover",
  /** From outside with a source of the pool. */
  forged: "forged_pool_source",
  /** From another link to an address of the pool, or to one that is published on its own link only. */
  routed: "routed_from_outside",
  /** From a network without a way out, to the outside. */
  internal: "internal_way_out",
  /** A reply that would begin a connection of its own. */
  stray: "stray_reply",
  /** It would leave the overlay with an inner address as its source: it belongs to no connection that is translated. */
  untranslated: "untranslated_source",
} as const;

/** Packets by the names that a person reads. */
export type DropCounts = Record<string, number>;

export function addDrops(one: DropCounts, other: DropCounts): DropCounts {
  return Object.fromEntries(Object.entries(other).map(([name, count]) => [name, count + (one[name] ?? 0)]));
}
