// overlayctl debug: what one looks into when packets are not what they should be.
import { type Command, Option } from "commander";
import type { ExportedKeys } from "../api/schema.ts";
import type { Context } from "./context.ts";

const FORMATS = ["wireshark", "json"] as const;

export function addDebugCommands(program: Command, context: Context): void {
  const debug = program.command("debug").description("look into what nodes send each other");
  debug
    .command("export-keys")
    .description("print the keys between this node and a peer, by which a capture is read; root alone gets them")
    .argument("<peer>", "the name of the other node")
    .addOption(
      new Option("--format <format>", "for Wireshark's file esp_sa, or as JSON").choices(FORMATS).default("wireshark"),
    )
    .action(async (peer: string, { format }: { format: (typeof FORMATS)[number] }) => {
      const keys = await context.api().exportKeys(peer);
      context.err(
        `Warning: with these keys all is read that this node and '${peer}' send each other, and forged, until they change within the hour. Keep them from others.\n`,
      );
      context.out(format === "json" ? `${JSON.stringify(keys, null, 2)}\n` : wiresharkRows(keys));
    });
}

/** Rows of the file `esp_sa` in Wireshark's configuration, Edit > Preferences > Protocols > ESP > ESP SAs. */
function wiresharkRows({ associations }: ExportedKeys): string {
  return associations
    .map(({ source, destination, spi, key }) => {
      const fields = ["IPv4", source, destination, `0x${spi.toString(16).padStart(8, "0")}`];
      const cipher = ["AES-GCM with 16 octet ICV [RFC4106]", `0x${key}`, "NULL", ""];
      return `${[...fields, ...cipher].map((field) => `"${field}"`).join(",")}\n`;
    })
    .join("");
}
