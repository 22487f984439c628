// Packets that the table's guards stop in the kernel, before the data path could count them: a counter for each reason.

/** The names of the counters in nftables. */
export const KERNEL_DROPS = {
  /** A container sent it from an address that is not its own, or it is not IPv4. */
  leftover: "container_leftover",
  /** It came from outside with a source in the pool. */
  forged: "forged_pool_source",
  /** It came by another link for an address of the pool, or for one that is published on its own link only. */
  routed: "routed_from_outside",
  /** It came for the managers' store, and from no manager. */
  store: "store_port",
  /** A container of a network without a way out sent it to the outside. */
  internal: "internal_way_out",
  /** It is a reply that would begin a connection of its own. */
  stray: "stray_reply",
  /** It would leave the overlay with an inner address as its source: it belongs to no connection that is translated. */
  untranslated: "untranslated_source",
} as const;

/** Packets by the names that an operator reads. */
export type DropCounts = Record<string, number>;

export function addDrops(one: DropCounts, other: DropCounts): DropCounts {
  return Object.fromEntries(Object.entries(other).map(([name, count]) => [name, count + (one[name] ?? 0)]));
}
