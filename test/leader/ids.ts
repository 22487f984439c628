// Ids in the order in which they were made, so that a failing run can be read.

/** A source of ids: 25 characters, counting up. */
export function countingIds(prefix = "id"): () => string {
  let count = 0;
  return () => `${prefix}${String(++count).padStart(25 - prefix.length, "0")}`;
}
