// overlayctl user: people who command the cluster from any machine, each with a certificate of its own.
import type { Command } from "commander";
import type { UserView } from "../api/membership-schema.ts";
import { certificateColumn, warnOfExpiry } from "./certificate.ts";
import type { Context } from "./context.ts";
import { formatAgo } from "./format.ts";
import { type Filters, hasId, hasName, type Listing } from "./listing.ts";
import { addNoun } from "./noun.ts";

export function addUserCommands(program: Command, context: Context): void {
  const user = addNoun(program, context, {
    word: "user",
    description: "manage who commands the cluster from other machines, with 'overlayctl --context FILE'",
    ls: {
      description: "list users",
      rows: (api) => api.users(),
      listing: () => listing(context),
      filters: FILTERS,
      trunc: false,
      after: async () => warnOfExpiry(context, await context.api().users(), "user"),
    },
    rm: {
      description: "remove users: their certificates are refused from then",
      remove: (api, name) => api.removeUser(name),
    },
  });
  user
    .command("add <name>")
    .description(
      "give a person a certificate: prints the file for --context, with its private key. Who has that file may do all to the cluster",
    )
    .action(async (name: string) => {
      // The key is made here, and goes nowhere but into the file.
      const { createKey } = await import("../trust/certificates.ts");
      const { createRequest } = await import("../trust/authority.ts");
      const key = createKey();
      const answer = await context.api().addUser({ name, request: await createRequest(key, name) });
      const { contextFile } = await import("../api/context-file.ts");
      context.out(contextFile({ user: name, ...answer, key }));
      context.err(
        "overlayctl: keep the output in a file that you alone may read (umask 077; overlayctl user add NAME > NAME.yaml)\n",
      );
    });
}

const FILTERS: Filters<UserView> = { id: hasId, name: hasName };

function listing(context: Context): Listing<UserView> {
  return {
    id: (row) => row.id,
    filters: FILTERS,
    columns: [
      { header: "ID", value: (row) => row.id },
      { header: "NAME", value: (row) => row.name },
      { header: "CREATED", value: (row) => formatAgo(row.createdAt, context.now()) },
      certificateColumn(context, (row) => row.expires),
    ],
  };
}
