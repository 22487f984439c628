// overlayctl peers and flows: what this node's data path sees.
import type { Command } from "commander";
import type { FlowView, PeerView } from "../api/schema.ts";
import { counted } from "../lib/counted.ts";
import { count } from "./arguments.ts";
import { certificateColumn, warnOfExpiry } from "./certificate.ts";
import type { Context } from "./context.ts";
import { formatBytes, formatDuration } from "./format.ts";
import {
  addListingOptions,
  type Filters,
  hasName,
  type Listing,
  type ListingOptions,
  oneOf,
  printListing,
} from "./listing.ts";
import { CLEAR_SCREEN } from "./table.ts";

const WATCH_MS = 1000;

export function addObserveCommands(program: Command, context: Context): void {
  addListingOptions(program.command("peers").description("show the other nodes as this one's data path sees them"), {
    quiet: true,
    filters: PEER_FILTERS,
  })
    .option("--watch", "show them anew every second, until Ctrl-C")
    .action(async (options: ListingOptions & { watch?: true }) => {
      for (;;) {
        const peers = await context.api().peers();
        if (options.watch === true && context.columns() !== undefined) context.out(CLEAR_SCREEN);
        printListing(context, options, peers, peerListing(context));
        warnOfExpiry(
          context,
          peers.map(({ name, certificateExpires }) => ({ name, expires: certificateExpires })),
          "node",
        );
        if (options.watch !== true) return;
        await context.pause(WATCH_MS);
      }
    });

  addListingOptions(program.command("flows").description("show this node's live connections"), {
    filters: FLOWS.filters!,
  })
    .option("--service <service>", "only those of this service")
    .option("--endpoint <endpoint>", "only those of this address, task (SERVICE.SLOT) or container")
    .option("--limit <count>", "list at most this number", count, 1000)
    .option("--watch", "show them anew every second, until Ctrl-C")
    .action(async (options: FlowsOptions) => {
      const { service, endpoint, limit } = options;
      const words = { ...(service === undefined ? {} : { service }), ...(endpoint === undefined ? {} : { endpoint }) };
      for (;;) {
        const flows = await context.api().flows({ ...words, limit });
        if (options.watch === true && context.columns() !== undefined) context.out(CLEAR_SCREEN);
        printListing(context, options, flows, FLOWS);
        if (options.watch !== true) return;
        await context.pause(WATCH_MS);
      }
    });
}

interface FlowsOptions extends ListingOptions {
  service?: string;
  endpoint?: string;
  limit: number;
  watch?: true;
}

const PEER_FILTERS: Filters<PeerView> = {
  name: hasName,
  state: oneOf(["up", "down", "init"], (row) => row.state),
  lane: oneOf(["on", "off"], (row) => row.lane),
  sealed: oneOf(["on", "off"], (row) => row.sealed),
};

function laneOf({ lane, laneReason, laneDelivery }: PeerView): string {
  const word = laneReason ?? (laneDelivery === "by-link" ? laneDelivery : null);
  return word === null ? lane : `${lane} (${word})`;
}

/** The age of the keys, how often they were changed, and what was dropped. */
function sealedOf({ sealed, keysAgeMs, rekeys, badSeals, replayed }: PeerView): string {
  if (keysAgeMs === null) return sealed;
  const drops = badSeals + replayed;
  const words = [
    formatDuration(keysAgeMs),
    counted(rekeys ?? 0, "rekey"),
    ...(drops > 0 ? [counted(drops, "drop")] : []),
  ];
  return `${sealed} (${words.join(", ")})`;
}

function peerListing(context: Context): Listing<PeerView> {
  return {
    id: (row) => row.name,
    filters: PEER_FILTERS,
    columns: [
      { header: "NAME", value: (row) => row.name },
      { header: "ADDRESS", value: (row) => row.address },
      { header: "STATE", value: (row) => row.state },
      { header: "RTT", value: (row) => (row.rttMs === null ? "-" : `${row.rttMs.toFixed(2)} ms`) },
      { header: "MTU", value: (row) => (row.mtu === null ? "-" : `${row.mtu}`) },
      { header: "LANE", value: laneOf },
      { header: "SEALED", value: sealedOf },
      { header: "RX BYTES", value: (row) => formatBytes(row.rxBytes) },
      { header: "RX PACKETS", value: (row) => `${row.rxPackets}` },
      { header: "TX BYTES", value: (row) => formatBytes(row.txBytes) },
      { header: "TX PACKETS", value: (row) => `${row.txPackets}` },
      { header: "TASKS", value: (row) => `${row.tasks}` },
      certificateColumn(context, (row) => row.certificateExpires),
      { header: "REASON", value: ({ reason, sealedReason }) => [reason, sealedReason].filter(Boolean).join("; ") },
    ],
  };
}

const FLOWS: Listing<FlowView> = {
  id: (row) => row.client,
  filters: {
    protocol: (row, value) => row.protocol === value,
    state: (row, value) => row.state === value,
    lane: oneOf(["both", "client", "server", "none"], (row) => row.lane ?? "none"),
    task: (row, value) => row.task === value,
    node: (row, value) => row.node === value,
  },
  columns: [
    { header: "PROTOCOL", value: (row) => row.protocol },
    { header: "CLIENT", value: (row) => row.client },
    { header: "DESTINATION", value: (row) => row.destination },
    { header: "TARGET", value: (row) => row.target },
    { header: "TASK", value: (row) => row.task ?? "" },
    { header: "NODE", value: (row) => row.node ?? "" },
    { header: "STATE", value: (row) => row.state },
    { header: "LANE", value: (row) => row.lane ?? "-" },
    { header: "AGE", value: (row) => formatDuration(row.ageMs) },
    { header: "PACKETS", value: (row) => `${row.packets}` },
    { header: "BYTES", value: (row) => formatBytes(row.bytes) },
  ],
};
