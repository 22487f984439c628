// Options that each set a field of a request. One row for each option says its flags, its help, its field and how its text
// is read; an error about the field names the option.
import { type Command, Option } from "commander";

export interface RequestOption<Field extends string = string> {
  flags: string;
  help: string;
  /** The path of the field, with dots. Lists and maps of several options for one field are put together in the table's order. */
  field: Field;
  /** What the text of the option stands for; left out: the text. */
  read?: (text: string) => unknown;
  /** It may be given several times, and `read` returns the items of a list, or the entries of a map. */
  several?: "list" | "map";
  choices?: readonly string[];
  required?: true;
  hidden?: true;
}

/** The values of a command's options, as commander has them. */
export type OptionValues = Readonly<Record<string, unknown>>;

export function addRequestOptions(command: Command, rows: readonly RequestOption[]): Command {
  for (const { flags, help, read, several, choices, required, hidden } of rows) {
    const option = new Option(flags, help).makeOptionMandatory(required === true);
    if (choices !== undefined) option.choices(choices);
    if (hidden) option.hideHelp();
    if (several !== undefined) {
      const items = (read ?? ((text: string) => [text])) as (text: string) => unknown[];
      option.argParser((text: string, before: unknown[] | undefined) => [...(before ?? []), ...items(text)]);
    } else if (read !== undefined) option.argParser(read);
    command.addOption(option);
  }
  return command;
}

export function isGiven({ flags }: RequestOption, values: OptionValues): boolean {
  return values[attributeOf(flags)] !== undefined;
}

/** The name that a person types: "--publish". */
export function longName({ flags }: RequestOption): string {
  return new Option(flags).long!;
}

/** The fields of the options that were given. */
export function requestOf(rows: readonly RequestOption[], values: OptionValues): Record<string, unknown> {
  const request: Record<string, unknown> = {};
  for (const [field, several] of new Map(rows.map(({ field, several }) => [field, several]))) {
    const given = rows.filter((row) => row.field === field && isGiven(row, values));
    if (given.length === 0) continue;
    const all = given.map(({ flags }) => values[attributeOf(flags)]);
    if (several === undefined) setField(request, field, all.at(-1));
    else setField(request, field, several === "list" ? all.flat() : Object.fromEntries((all as Entries[]).flat()));
  }
  return request;
}

type Entries = [key: string, value: unknown][];

function attributeOf(flags: string): string {
  return new Option(flags).attributeName();
}

function setField(request: Record<string, unknown>, path: string, value: unknown): void {
  const keys = path.split(".");
  const last = keys.pop()!;
  let at = request;
  for (const key of keys) {
    at[key] ??= {};
    at = at[key] as Record<string, unknown>;
  }
  at[last] = value;
}
