// overlayctl ca
import { Argument, type Command } from "commander";
import type { Context } from "./context.ts";

const NAMES = { nodes: "cluster", store: "managers' store" } as const;

export function addAuthorityCommands(program: Command, context: Context): void {
  program
    .command("ca")
    .description("manage the cluster's certificate authorities")
    .command("rotate")
    .description(
      "make new certificate authorities, that of nodes and users and that of the managers' store: all get new certificates, no session breaks, and join commands that were printed before go on working",
    )
    .addArgument(new Argument("[authority]", "change this one alone").choices(["nodes", "store"]))
    .option("--json", "print JSON")
    .action(async (authority: "nodes" | "store" | undefined, { json = false }: { json?: boolean }) => {
      const views = await context.api().rotateAuthority(authority === undefined ? {} : { authority });
      if (json) return context.out(`${JSON.stringify(views, null, 2)}\n`);
      for (const { authority: which, signer, waitsFor, reason } of views) {
        if (waitsFor.length === 0) {
          context.out(`The ${NAMES[which]} has a new certificate authority: ${signer}\n`);
          continue;
        }
        context.out(`The ${NAMES[which]} is getting a new certificate authority: ${signer}\n`);
        const until =
          which === "nodes"
            ? "these nodes have new certificates, or theirs have expired"
            : "the etcd of these managers has taken the new one";
        context.err(
          `overlayctl: the one before is trusted until ${until}: ${[waitsFor.join(", "), ...(reason ? [reason] : [])].join("; ")}; 'overlayctl ca rotate ${which}' looks again\n`,
        );
      }
    });
}
