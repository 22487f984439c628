// overlayctl endpoint add, rm: hosts behind VTEPs that are no nodes of ours.
import type { Command } from "commander";
import { vtep } from "./arguments.ts";
import { type Context, forEachName } from "./context.ts";

interface AddOptions {
  network: string;
  ip: string;
  mac: string;
  vtep: { vtep: string; port?: number };
  name?: string;
}

export function addExternalCommands(endpoint: Command, context: Context): void {
  endpoint
    .command("add")
    .description("make a host behind a kernel's vxlan device or a switch reachable by name and address")
    .requiredOption("--network <network>", "the network that it is on")
    .requiredOption("--ip <address>", "its address there")
    .requiredOption("--mac <address>", "its Ethernet address")
    .requiredOption("--vtep <address>", "the tunnel end that it is behind: ADDRESS[:PORT] (default port: 4789)", vtep)
    .option("--name <name>", "its name in DNS")
    .action(async ({ network, ip, mac, vtep, name }: AddOptions) => {
      const { id } = await context.api().addExternal({ network, name, address: ip, mac, ...vtep });
      context.out(`${id}\n`);
    });

  endpoint
    .command("rm <endpoint...>")
    .alias("remove")
    .description("remove such hosts, by name, address or id")
    .action((words: string[]) =>
      forEachName(context, words, async (word) => {
        await context.api().removeExternal(word);
        context.out(`${word}\n`);
      }),
    );
}
