// overlayctl express on|off: this node's express lane, until its agent starts again.
import type { Command } from "commander";
import type { Context } from "./context.ts";

export function addExpressCommands(program: Command, context: Context): void {
  const express = program
    .command("express")
    .description("let established flows of this node go in the kernel's express lane, or not");
  express
    .command("on")
    .description(
      "flows enter the lane again; after the agent's next start its configuration decides (datapath.express)",
    )
    .action(async () => {
      await context.api().turnLane(true);
      context.out("Flows enter the express lane.\n");
    });
  express
    .command("off")
    .description("flows leave the lane and go on by the agent; after its next start its configuration decides")
    .action(async () => {
      await context.api().turnLane(false);
      context.out("Flows have left the express lane, and go on by the agent.\n");
    });
}
