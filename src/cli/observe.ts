// overlayctl peers, flows and stats: what this node's data path sees.
import type { Command } from "commander";
import type { FlowView, PeerView, StatsView } from "../api/schema.ts";
import { count } from "./arguments.ts";
import type { Context } from "./context.ts";
import { formatBytes, formatDuration } from "./format.ts";
import { addListingOptions, isJson, type Listing, type ListingOptions, printListing } from "./listing.ts";
import { formatTable } from "./table.ts";

const WATCH_MS = 1000;
/** Cursor home, clear to the end of the screen (ECMA-48 CUP and ED). */
const CLEAR_SCREEN = "\x1b[H\x1b[J";

export function addObserveCommands(program: Command, context: Context): void {
  addListingOptions(program.command("peers").description("show the other nodes as this one's data path sees them"), {
    quiet: true,
  })
    .option("--watch", "show them anew every second, until Ctrl-C")
    .action(async (options: ListingOptions & { watch?: true }) => {
      for (;;) {
        const peers = await context.api().peers();
        if (options.watch === true && context.columns() !== undefined) context.out(CLEAR_SCREEN);
        printListing(context, options, peers, PEERS);
        if (options.watch !== true) return;
        await context.pause(WATCH_MS);
      }
    });

  addListingOptions(program.command("flows").description("show this node's live connections"))
    .option("--service <service>", "of this service only")
    .option("--limit <count>", "at most so many", count, 1000)
    .action(async (options: ListingOptions & { service?: string; limit: number }) => {
      const { service, limit } = options;
      const flows = await context.api().flows(service === undefined ? { limit } : { service, limit });
      printListing(context, options, flows, FLOWS);
    });

  addListingOptions(program.command("stats").description("show this node's counters, and drops by reason"))
    .option("--all", "counters that stand at zero too")
    .action(async (options: ListingOptions & { all?: true }) => {
      const stats = await context.api().stats();
      context.out(isJson(options) ? `${JSON.stringify(stats, null, 2)}\n` : statsTable(stats, options.all === true));
    });
}

const PEERS: Listing<PeerView> = {
  id: (row) => row.name,
  columns: [
    { header: "NAME", value: (row) => row.name },
    { header: "ADDRESS", value: (row) => row.address },
    { header: "STATE", value: (row) => row.state },
    { header: "RTT", value: (row) => (row.rttMs === null ? "-" : `${row.rttMs.toFixed(2)} ms`) },
    { header: "MTU", value: (row) => (row.mtu === null ? "-" : `${row.mtu}`) },
    { header: "RX BYTES", value: (row) => formatBytes(row.rxBytes) },
    { header: "RX PACKETS", value: (row) => `${row.rxPackets}` },
    { header: "TX BYTES", value: (row) => formatBytes(row.txBytes) },
    { header: "TX PACKETS", value: (row) => `${row.txPackets}` },
    { header: "TASKS", value: (row) => `${row.tasks}` },
    { header: "REASON", value: (row) => row.reason ?? "" },
  ],
};

const FLOWS: Listing<FlowView> = {
  id: (row) => row.client,
  columns: [
    { header: "PROTOCOL", value: (row) => row.protocol },
    { header: "CLIENT", value: (row) => row.client },
    { header: "DESTINATION", value: (row) => row.destination },
    { header: "TARGET", value: (row) => row.target },
    { header: "TASK", value: (row) => row.task ?? "" },
    { header: "NODE", value: (row) => row.node ?? "" },
    { header: "STATE", value: (row) => row.state },
    { header: "AGE", value: (row) => formatDuration(row.ageMs) },
    { header: "PACKETS", value: (row) => `${row.packets}` },
    { header: "BYTES", value: (row) => formatBytes(row.bytes) },
  ],
};

function statsTable(stats: StatsView, all: boolean): string {
  const rows = (["datapath", "drops", "dns"] as const).flatMap((part) =>
    Object.entries(stats[part])
      .filter(([, value]) => all || value !== 0)
      .map(([counter, value]) => ({ part, counter, value })),
  );
  return formatTable(
    [
      { header: "PART", value: (row) => row.part },
      { header: "COUNTER", value: (row) => row.counter },
      { header: "VALUE", value: (row) => `${row.value}` },
    ],
    rows,
  );
}
