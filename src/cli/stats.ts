// overlayctl stats: this node's counters, how fast they rise, and every drop by its reason.
import type { Command } from "commander";
import type { StatsView } from "../api/schema.ts";
import type { Context } from "./context.ts";
import { addListingOptions, type Filters, isJson, type ListingOptions, oneOf, passing } from "./listing.ts";
import { printableJson } from "./printable.ts";
import { CLEAR_SCREEN, formatTable } from "./table.ts";

const SAMPLE_MS = 1000;
const PARTS = ["datapath", "drops", "dns"] as const;

/** The counters with their rises a second. */
export type RatedStats = StatsView & { rates: StatsView };

interface StatsOptions extends ListingOptions {
  all?: true;
  watch?: true;
}

export function addStatsCommand(program: Command, context: Context): void {
  addListingOptions(
    program.command("stats").description("show this node's counters, their rates, and drops by reason"),
    { filters: FILTERS },
  )
    .option("--all", "also counters that are zero, with every reason for a drop")
    .option("--watch", "show them anew every second, until Ctrl-C")
    .action(async (options: StatsOptions) => {
      let before = await sample(context);
      for (;;) {
        await context.pause(SAMPLE_MS);
        const now = await sample(context);
        const stats = chosen({ ...now.stats, rates: ratesOf(before, now) }, options);
        before = now;
        if (options.watch === true && context.columns() !== undefined) context.out(CLEAR_SCREEN);
        context.out(isJson(options) ? `${printableJson(stats)}\n` : statsTable(stats, options.all === true));
        if (options.watch !== true) return;
      }
    });
}

type Part = (typeof PARTS)[number];

const FILTERS: Filters<{ part: Part; counter: string }> = {
  part: oneOf(PARTS, (row) => row.part),
  counter: (row, value) => row.counter.includes(value),
};

/** The counters that pass the filters. */
function chosen({ rates, ...stats }: RatedStats, { filter = [] }: StatsOptions): RatedStats {
  const passingOf = (view: StatsView, part: Part): Record<string, number> =>
    Object.fromEntries(
      passing(
        Object.entries(view[part]).map(([counter, value]) => ({ part, counter, value })),
        filter,
        FILTERS,
      ).map(({ counter, value }) => [counter, value]),
    );
  const all = (view: StatsView): StatsView => ofEachPart((part) => passingOf(view, part));
  return { ...all(stats), rates: all(rates) };
}

function ofEachPart(of: (part: Part) => Record<string, number>): StatsView {
  return { datapath: of("datapath"), drops: of("drops"), dns: of("dns") };
}

interface Sample {
  stats: StatsView;
  atMs: number;
}

async function sample(context: Context): Promise<Sample> {
  return { stats: await context.api().stats(), atMs: context.monotonic() };
}

function ratesOf(before: Sample, now: Sample): StatsView {
  const seconds = Math.max(now.atMs - before.atMs, 1) / 1000;
  return ofEachPart((part) =>
    Object.fromEntries(
      Object.entries(now.stats[part]).map(([counter, value]) => {
        return [counter, Math.round((value - (before.stats[part][counter] ?? 0)) / seconds)];
      }),
    ),
  );
}

function statsTable({ rates, ...stats }: RatedStats, all: boolean): string {
  const rows = PARTS.flatMap((part) =>
    Object.entries(stats[part])
      .filter(([, value]) => all || value !== 0)
      .map(([counter, value]) => ({ part, counter, value, rate: rates[part][counter] })),
  );
  return formatTable(
    [
      { header: "PART", value: (row) => row.part },
      { header: "COUNTER", value: (row) => row.counter },
      { header: "VALUE", value: (row) => `${row.value}` },
      { header: "PER SECOND", value: (row) => `${row.rate}` },
    ],
    rows,
  );
}
