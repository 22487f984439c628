// overlayctl leave
import type { Command } from "commander";
import { UserError } from "../lib/errors.ts";
import type { Context } from "./context.ts";

const POLL_MS = 200;
/** How long the agent may take to stop and to start again: its tasks have their grace periods. */
const DEADLINE_MS = 180_000;

export function addLeaveCommand(program: Command, context: Context): void {
  program
    .command("leave")
    .description(
      "make this node forget its cluster: its tasks end, its containers lose their network, its copy of the state is removed; then the agent starts again and joins the cluster of the managers in its configuration",
    )
    .option("-f, --force", "leave even if the node has tasks or other containers, or no leader answers")
    .action(async ({ force = false }: { force?: boolean }) => {
      const { node } = await context.api().status();
      await context.api().leave({ force });
      await until(context, "stops", false);
      await until(context, "starts again", true);
      context.out(
        `${node} has left its cluster and joins the one that its managers lead; run 'overlayctl node rm ${node}' in the old cluster to remove its row\n`,
      );
    });
}

async function until(context: Context, what: string, isThere: boolean): Promise<void> {
  const deadline = context.monotonic() + DEADLINE_MS;
  while ((await context.api().isThere()) !== isThere) {
    if (context.monotonic() > deadline)
      throw new UserError(503, `it takes too long: the agent ${what}; look at its log`);
    await context.pause(POLL_MS);
  }
}
