// overlayctl service create: an image's containers, or, after `--`, a command's processes.
import { Command, Option } from "commander";
import type { CreateService } from "../api/schema.ts";
import { registryAuthFor } from "../lib/registry-auth.ts";
import type { Context } from "./context.ts";
import { withoutRoot } from "./naming-options.ts";
import { addRequestOptions, isGiven, longName, type OptionValues, requestOf } from "./request-options.ts";
import { CONTAINER_OPTIONS, SERVICE_OPTIONS, WORKLOAD_OPTIONS } from "./service-options.ts";
import { addWaitOptions, converge, type WaitOptions } from "./service-wait.ts";
import { printWarnings } from "./service-warnings.ts";

const RUNTIMES = ["docker", "process"] as const;

const HELP = `
IMAGE [COMMAND...] runs containers of the image, on nodes that have Docker.
-- COMMAND... runs the command as a process of the node; its programs and files are the node's.
--runtime says which of the two is meant where the -- should not.
`;

type CreateOptions = WaitOptions & { runtime?: (typeof RUNTIMES)[number] };

export function addServiceCreate(service: Command, context: Context): void {
  const create = service
    .command("create")
    .argument("<image...>")
    .usage("[options] IMAGE [COMMAND...] | -- COMMAND...")
    .description("create a service; options stand before the image or the command");
  addRequestOptions(create, SERVICE_OPTIONS);
  create.addOption(
    new Option("--runtime <runtime>", "docker: containers; process: a node's processes").choices(RUNTIMES),
  );
  addRequestOptions(create, [...WORKLOAD_OPTIONS, ...CONTAINER_OPTIONS]);
  addWaitOptions(create).addHelpText("after", HELP).passThroughOptions();
  let isAfterDashes = false;
  // What commander hands to the action does not tell `-- COMMAND` from `COMMAND`.
  create.parseOptions = (argv) => {
    const result = Command.prototype.parseOptions.call(create, argv);
    isAfterDashes = result.operands.length > 0 && argv.at(-result.operands.length - 1) === "--";
    return result;
  };
  create.action(async (line: string[], options: CreateOptions) => {
    const runtime = options.runtime ?? (isAfterDashes ? "process" : "docker");
    const misplaced = CONTAINER_OPTIONS.find((row) => isGiven(row, { ...options }));
    if (runtime === "process" && misplaced !== undefined)
      create.error(`error: ${longName(misplaced)} is for containers, and this service runs a process`);
    const request = serviceRequest(line, { ...options, runtime });
    if (isWithCredentials(request))
      context.err("warning: the credentials go to the manager and to the nodes that run the tasks unencrypted\n");
    const { id } = await context.api().createService(request);
    context.out(`${id}\n`);
    // Warnings come before the wait, whose length they may explain; those that are new come after it.
    const printed = await printWarnings(context, [id]);
    await converge(context, id, options);
    await printWarnings(context, [id], printed);
  });
}

/** The request for what a person has typed. */
export function serviceRequest(line: readonly string[], values: OptionValues): CreateService {
  const rows = [...SERVICE_OPTIONS, ...WORKLOAD_OPTIONS, ...CONTAINER_OPTIONS];
  const { workload = {}, ...request } = requestOf(rows, values) as { workload?: Record<string, unknown> };
  const { naming, registryAuth, ...rest } = workload as { naming?: object; registryAuth?: true };
  const [image, ...command] = line;
  const program = values.runtime === "process" ? { command: line } : { image, command };
  const credentials = registryAuth === true ? { registryAuth: registryAuthFor(image!, process.env) } : {};
  const names = naming === undefined ? {} : { naming: withoutRoot(naming) };
  // The leader checks it.
  return {
    ...request,
    workload: { runtime: values.runtime, ...program, ...rest, ...names, ...credentials },
  } as unknown as CreateService;
}

function isWithCredentials({ workload }: CreateService): boolean {
  return workload.runtime === "docker" && workload.registryAuth !== undefined;
}
