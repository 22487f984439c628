// Tables as Docker prints them: cells padded to the widest and three more, at least ten wide.

const PADDING = 3;
const MIN_WIDTH = 10;

export interface Column<T> {
  header: string;
  value(row: T): string;
}

/** The header and one line a row, each ended by a newline and without trailing blanks. */
export function formatTable<T>(columns: readonly Column<T>[], rows: readonly T[]): string {
  const lines = [
    columns.map(({ header }) => header),
    ...rows.map((row) => columns.map(({ value }) => oneLine(value(row)))),
  ];
  const widths = columns.map((_, i) => Math.max(MIN_WIDTH, ...lines.map((cells) => cells[i]!.length + PADDING)));
  return lines
    .map(
      (cells) =>
        `${cells
          .map((cell, i) => cell.padEnd(widths[i]!))
          .join("")
          .trimEnd()}\n`,
    )
    .join("");
}

function oneLine(text: string): string {
  return text.replace(/\s*\n\s*/g, " ").trimEnd();
}
