// The commands that all nouns have: `ls`, `inspect` and `rm` of networks, services, nodes and endpoints.
import { type Command, Option } from "commander";
import type { ApiClient } from "../api/client.ts";
import { type Context, forEachName } from "./context.ts";
import { addListingOptions, type Filters, type Listing, type ListingOptions, printListing } from "./listing.ts";
import { printableJson } from "./printable.ts";

interface Noun<T> {
  /** What a person types, such as `network`. */
  word: string;
  description: string;
  ls: {
    description: string;
    rows(api: ApiClient): Promise<T[]>;
    /** `truncate` is false with --no-trunc, which `trunc` offers. */
    listing(truncate: boolean): Listing<T>;
    filters: Filters<T>;
    trunc?: boolean;
    after?(): Promise<void>;
  };
  inspect?: { description: string; get(api: ApiClient, name: string): Promise<T> };
  rm: {
    description: string;
    /** The help of --force; left out: there is no such option. */
    force?: string;
    remove(api: ApiClient, name: string, force: boolean): Promise<{ name: string }>;
  };
}

/** Adds the noun with its three commands. Returns it, for the commands that it has besides. */
export function addNoun<T>(
  program: Command,
  context: Context,
  { word, description, ls, inspect, rm }: Noun<T>,
): Command {
  const noun = program.command(word).description(description);
  addListingOptions(noun.command("ls").alias("list").description(ls.description), {
    quiet: true,
    trunc: ls.trunc ?? true,
    filters: ls.filters,
  }).action(async (options: ListingOptions) => {
    printListing(context, options, await ls.rows(context.api()), ls.listing(options.trunc));
    await ls.after?.();
  });
  if (inspect !== undefined) {
    // The two options say what `inspect` does anyway, for people who are used to them.
    noun
      .command(`inspect <${word}...>`)
      .description(inspect.description)
      .option("--json", "print JSON, as it does anyway")
      .addOption(new Option("-f, --format <format>", "as --json").choices(["json"]))
      .action((names: string[]) => printEach(context, names, (name) => inspect.get(context.api(), name)));
  }
  const remove = noun.command(`rm <${word}...>`).alias("remove").description(rm.description);
  if (rm.force !== undefined) remove.option("-f, --force", rm.force);
  remove.action((names: string[], { force = false }: { force?: boolean }) =>
    forEachName(context, names, async (asked) => {
      const { name } = await rm.remove(context.api(), asked, force);
      context.out(`${name}\n`);
    }),
  );
  return noun;
}

/** A JSON array of what was found, as Docker prints it. */
async function printEach<T>(
  context: Context,
  names: readonly string[],
  get: (name: string) => Promise<T>,
): Promise<void> {
  const found: T[] = [];
  try {
    await forEachName(context, names, async (name) => {
      found.push(await get(name));
    });
  } finally {
    context.out(`${printableJson(found)}\n`);
  }
}
