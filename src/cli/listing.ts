// What every listing has: a table, --json (or --format json), and Docker's -q and --no-trunc where they mean something.
import { type Command, Option } from "commander";
import type { Context } from "./context.ts";
import { type Column, formatTable } from "./table.ts";

export interface ListingOptions {
  json?: true;
  format: "table" | "json";
  quiet?: true;
  /** False with --no-trunc. */
  trunc: boolean;
}

export interface Listing<T> {
  columns: readonly Column<T>[];
  /** What -q prints. */
  id(row: T): string;
}

export function addListingOptions(command: Command, { quiet = false, trunc = false } = {}): Command {
  command
    .option("--json", "print JSON")
    .addOption(new Option("--format <format>", "how to print").choices(["table", "json"]).default("table"));
  if (quiet) command.option("-q, --quiet", "print ids only");
  if (trunc) command.option("--no-trunc", "print ids and commands in full");
  return command;
}

export function isJson({ json, format }: Pick<ListingOptions, "json" | "format">): boolean {
  return json === true || format === "json";
}

export function printListing<T>(
  context: Context,
  options: ListingOptions,
  rows: readonly T[],
  listing: Listing<T>,
): void {
  if (options.quiet === true) context.out(rows.map((row) => `${listing.id(row)}\n`).join(""));
  else if (isJson(options)) context.out(`${JSON.stringify(rows, null, 2)}\n`);
  else context.out(formatTable(listing.columns, rows));
}
