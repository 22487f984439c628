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
      "make this node forget its cluster: its tasks end, its containers lose their network, its certificate and its copy of the state are removed; then its agent waits to join again",
    )
    .option("-f, --force", "leave even if the node has tasks or other containers, is a manager, or no leader answers")
    .action(async ({ force = false }: { force?: boolean }) => {
      const { node, role } = await context.api().status();
      const { unheard } = await context.api().leave({ force });
      await untilWaiting(context);
      const rest = role === "worker" ? `; run 'overlayctl node rm ${node}' on a manager to remove its row` : "";
      context.out(`Node left the cluster${rest}.\n`);
      if (unheard === null) return;
      context.err(
        `overlayctl: no leader has heard that it left (${unheard}): 'node ls' shows the node as up until the session time-out is over\n`,
      );
    });
}

async function untilWaiting(context: Context): Promise<void> {
  const deadline = context.monotonic() + DEADLINE_MS;
  for (;;) {
    const phase = await context
      .api()
      .status()
      .then(
        (status) => status.phase,
        () => "between",
      );
    if (phase === "waiting") return;
    if (context.monotonic() > deadline)
      throw new UserError(503, "it takes too long: the agent stops and starts again; look at its log");
    await context.pause(POLL_MS);
  }
}
