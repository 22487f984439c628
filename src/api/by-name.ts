// The order of listings: by name, with numbers in names as numbers.

/** The one collator for all comparisons: `localeCompare` with options makes a new one each time. */
const ORDER = new Intl.Collator("en", { numeric: true });

export function byName<T extends { name: string }>(rows: T[]): T[] {
  return rows.sort((a, b) => ORDER.compare(a.name, b.name));
}

/** The rows in the order of their texts: the first text that differs decides. */
export function byTexts<T>(rows: T[], textsOf: (row: T) => readonly string[]): T[] {
  return rows
    .map((row) => ({ row, texts: textsOf(row) }))
    .sort((a, b) => {
      const differing = a.texts.findIndex((text, i) => text !== b.texts[i]);
      return differing < 0 ? 0 : ORDER.compare(a.texts[differing]!, b.texts[differing]!);
    })
    .map(({ row }) => row);
}
