// overlayctl ca
import type { Command } from "commander";
import type { Context } from "./context.ts";

export function addAuthorityCommands(program: Command, context: Context): void {
  program
    .command("ca")
    .description("manage the cluster's certificate authority")
    .command("rotate")
    .description(
      "make a new certificate authority: every node gets a new certificate, no session breaks, and join commands that were printed before go on working",
    )
    .option("--json", "print JSON")
    .action(async ({ json = false }: { json?: boolean }) => {
      const view = await context.api().rotateAuthority();
      const { signer, waitsFor } = view;
      if (json) return context.out(`${JSON.stringify(view, null, 2)}\n`);
      if (waitsFor.length === 0) return context.out(`The cluster has a new certificate authority: ${signer}\n`);
      context.out(`The new certificate authority signs: ${signer}\n`);
      context.err(
        `overlayctl: the one before is trusted until these nodes have new certificates, or theirs have expired: ${waitsFor.join(", ")}; 'overlayctl ca rotate' looks again\n`,
      );
    });
}
