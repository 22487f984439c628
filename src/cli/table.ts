// Tables as Docker prints them: each column three wider than its widest cell, and at least ten wide.

import { printable } from "./printable.ts";

/** Cursor home, clear to the end of the screen (ECMA-48 CUP and ED): before a table that is shown anew. */
export const CLEAR_SCREEN = "\x1b[H\x1b[J";

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
  return printable(text.replace(/\s*\r?\n\s*/g, " ")).trimEnd();
}
