// How much of a line or a commit a row takes, without writing it out.

/** How long the row's JSON is, within a factor of two. */
export function roughBytes(value: unknown): number {
  if (typeof value === "string") return value.length + 3;
  if (typeof value !== "object" || value === null) return 5;
  let bytes = 2;
  for (const key in value) bytes += key.length + 4 + roughBytes((value as Record<string, unknown>)[key]);
  return bytes;
}
