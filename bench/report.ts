// Rows of figures as a table for a terminal, and as Markdown.
import { type Column, formatTable } from "../src/cli/table.ts";
import type { Limit, Row } from "./experiment.ts";

const COLUMNS: readonly Column<Row>[] = [
  { header: "FIGURE", value: ({ experiment, metric, unit }) => `${experiment}: ${metric}, ${unit}` },
  { header: "OF", value: ({ contender }) => contender },
  { header: "MEDIAN", value: ({ value, digits }) => value.median.toFixed(digits) },
  { header: "MIN", value: ({ value, digits }) => value.min.toFixed(digits) },
  { header: "MAX", value: ({ value, digits }) => value.max.toFixed(digits) },
  { header: "RATIO", value: ratioText },
  { header: "BAR", value: ({ limit }) => (limit === null ? "" : limitText(limit, limit.bar)) },
  { header: "AIM", value: ({ limit }) => (limit === null ? "" : limitText(limit, limit.aim)) },
  { header: "", value: ({ verdict }) => verdict ?? "" },
];

export function formatRows(rows: readonly Row[]): string {
  return formatTable(COLUMNS, rows);
}

export function formatMarkdown(rows: readonly Row[]): string {
  const line = (cells: readonly string[]): string => `| ${cells.join(" | ")} |\n`;
  return (
    line(COLUMNS.map(({ header }) => header.toLowerCase())) +
    line(COLUMNS.map(() => "---")) +
    rows.map((row) => line(COLUMNS.map(({ value }) => value(row)))).join("")
  );
}

/** Median, range, and where there are enough pairs the interval that holds the median with 95 %. */
function ratioText({ ratio, interval, samples }: Row): string {
  if (ratio === null) return "";
  const range = `${ratio.min.toFixed(2)} to ${ratio.max.toFixed(2)}`;
  const confidence =
    interval === null
      ? ""
      : `; ${samples.length} pairs, 95 %: ${interval.low.toFixed(2)} to ${interval.high.toFixed(2)}`;
  return `${ratio.median.toFixed(2)} (${range}${confidence})`;
}

function limitText({ atMost, of }: Limit, wanted: number): string {
  return `${atMost ? "<=" : ">="} ${of === "ratio" ? wanted.toFixed(2) : wanted}`;
}
