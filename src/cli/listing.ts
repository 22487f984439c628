// The options and the output of listings: a table, --json (or --format json), and Docker's -q, --no-trunc and --filter
// where they apply.
import { type Command, InvalidArgumentError, Option } from "commander";
import { didYouMean } from "../lib/nearest.ts";
import type { Context } from "./context.ts";
import { printableJson } from "./printable.ts";
import { type Column, formatTable } from "./table.ts";

export interface ListingOptions {
  json?: true;
  format: "table" | "json";
  quiet?: true;
  /** False with --no-trunc. */
  trunc: boolean;
  filter?: readonly Filter[];
}

/** KEY=VALUE of --filter. */
interface Filter {
  key: string;
  value: string;
}

/** Whether a row passes `--filter KEY=VALUE`. */
interface Rule<T> {
  (row: T, value: string): boolean;
  /** All possible values; undefined: any text. */
  values?: readonly string[];
}

/** The rules by the KEY of --filter. */
export type Filters<T> = Readonly<Record<string, Rule<T>>>;

export interface Listing<T> {
  columns: readonly Column<T>[];
  /** The id that -q prints; undefined: no line. */
  id(row: T): string | undefined;
  filters?: Filters<T>;
}

/** The rule for a property that is one of few words. */
export function oneOf<T>(values: readonly string[], of: (row: T) => string): Rule<T> {
  return Object.assign((row: T, value: string) => of(row) === value, { values });
}

/** Docker's rule for names: a part of the name is enough. */
export function hasName(row: { name: string | null }, value: string): boolean {
  return row.name?.includes(value) === true;
}

/** Docker's rule for ids: the beginning of the id is enough. */
export function hasId(row: { id: string | null }, value: string): boolean {
  return row.id?.startsWith(value) === true;
}

export function addListingOptions(
  command: Command,
  { quiet = false, trunc = false, filters = {} }: { quiet?: boolean; trunc?: boolean; filters?: Filters<never> } = {},
): Command {
  command
    .option("--json", "print JSON")
    .addOption(new Option("--format <format>", "how to print").choices(["table", "json"]).default("table"));
  if (quiet) command.option("-q, --quiet", "print ids only");
  if (trunc) command.option("--no-trunc", "print ids and commands in full");
  const keys = Object.keys(filters);
  if (keys.length > 0) {
    const help = `only rows with KEY=VALUE; KEY is ${keys.join(", ")}. One key twice: either will do`;
    command.option("-f, --filter <key=value>", help, (text: string, before: readonly Filter[] = []) => [
      ...before,
      parseFilter(text, filters),
    ]);
  }
  return command;
}

function parseFilter(text: string, filters: Filters<never>): Filter {
  const keys = Object.keys(filters);
  const [key = "", ...rest] = text.split("=");
  if (rest.length === 0) throw new InvalidArgumentError("write KEY=VALUE");
  if (!keys.includes(key)) throw new InvalidArgumentError(`no filter '${key}'${didYouMean(key, keys)}`);
  const value = rest.join("=");
  const { values } = filters[key]!;
  if (values?.includes(value) === false)
    throw new InvalidArgumentError(`${key} is ${values.join(" or ")}, not '${value}'${didYouMean(value, values)}`);
  return { key, value };
}

/** Rows that pass a filter of every key that is given. */
export function passing<T>(rows: readonly T[], given: readonly Filter[], filters: Filters<T>): T[] {
  const keys = new Set(given.map(({ key }) => key));
  return rows.filter((row) =>
    [...keys].every((key) => given.some((filter) => filter.key === key && filters[key]!(row, filter.value))),
  );
}

export function isJson({ json, format }: Pick<ListingOptions, "json" | "format">): boolean {
  return json === true || format === "json";
}

export function printListing<T>(
  context: Context,
  options: ListingOptions,
  all: readonly T[],
  listing: Listing<T>,
): void {
  const rows = passing(all, options.filter ?? [], listing.filters ?? {});
  if (options.quiet === true)
    context.out(
      rows
        .flatMap((row) => listing.id(row) ?? [])
        .map((id) => `${id}\n`)
        .join(""),
    );
  else if (isJson(options)) context.out(`${printableJson(rows)}\n`);
  else context.out(formatTable(listing.columns, rows));
}
