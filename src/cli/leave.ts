// overlayctl leave
import type { Command } from "commander";
import { UserError } from "../lib/errors.ts";
import type { Context } from "./context.ts";

const POLL_MS = 200;
/** Long enough for tasks to stop within their grace periods. */
const DEADLINE_MS = 180_000;

export function addLeaveCommand(program: Command, context: Context): void {
  program
    .command("leave")
    .description(
      "make this node forget its cluster: its tasks end, its containers lose their network, its copy of the state is removed; then the agent starts anew, and joins the cluster that the managers of its configuration lead",
    )
    .option("-f, --force", "also when the node has tasks or other containers, or while no leader answers")
    .action(async ({ force = false }: { force?: boolean }) => {
      const { node } = await context.api().status();
      await context.api().leave({ force });
      await until(context, "stops", false);
      await until(context, "starts again", true);
      context.out(
        `${node} has left its cluster, and joins the one that its managers lead; 'overlayctl node rm ${node}' there removes it from the one that it left\n`,
      );
    });
}

async function until(context: Context, what: string, isThere: boolean): Promise<void> {
  const deadline = context.monotonic() + DEADLINE_MS;
  while ((await context.api().isThere()) !== isThere) {
    if (context.monotonic() > deadline) throw new UserError(503, `not in time: the agent ${what}; its log says more`);
    await context.pause(POLL_MS);
  }
}
