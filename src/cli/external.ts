// overlayctl endpoint add: hosts behind VTEPs that are no nodes.
import type { Command } from "commander";
import type { AddExternal } from "../api/schema.ts";
import { vtep } from "./arguments.ts";
import type { Context } from "./context.ts";
import { addRequestOptions, type OptionValues, type RequestOption, requestOf } from "./request-options.ts";

export const EXTERNAL_OPTIONS: readonly RequestOption<keyof AddExternal>[] = [
  { flags: "--network <network>", help: "the network that it is on", field: "network", required: true },
  { flags: "--ip <address>", help: "its address there", field: "address", required: true },
  { flags: "--mac <address>", help: "its Ethernet address", field: "mac", required: true },
  {
    flags: "--vtep <address>",
    help: "the tunnel end that it is behind: ADDRESS[:PORT] (default port: 4789)",
    field: "vtep",
    read: vtep,
    required: true,
  },
  { flags: "--name <name>", help: "its name in DNS", field: "name" },
];

export function addExternalCommand(endpoint: Command, context: Context): void {
  const add = endpoint
    .command("add")
    .description("make a host behind a kernel's vxlan device or a switch reachable by name and address");
  addRequestOptions(add, EXTERNAL_OPTIONS).action(async (options: OptionValues) => {
    const request = requestOf(EXTERNAL_OPTIONS, options) as { vtep: ReturnType<typeof vtep> };
    const { id } = await context.api().addExternal({ ...request, ...request.vtep } as unknown as AddExternal);
    context.out(`${id}\n`);
  });
}
