// Opens a user's file: the way to the managers of its cluster. Loaded only for `--context`, for TLS takes time to load.
import { UserError } from "../lib/errors.ts";
import { Credentials } from "../trust/credentials.ts";
import { ClientConnections } from "../trust/tls.ts";
import { TrustError } from "../trust/trust-error.ts";
import { readContextFile } from "./context-file.ts";
import { ManagersTarget } from "./managers-target.ts";
import type { ApiTarget } from "./target.ts";

/** `warning`: what its owner should know. Throws UserError that names the file. */
export function openContext(path: string): { target: ApiTarget; warning: string | undefined } {
  const { context, isOpen } = readContextFile(path);
  try {
    const connections = new ClientConnections(new Credentials(context), { role: "manager" });
    const warning = isOpen
      ? `other users of this machine may read ${path}, and its private key: chmod 600 ${path}`
      : undefined;
    return { target: new ManagersTarget(context.managers, connections), warning };
  } catch (error) {
    if (!(error instanceof TrustError)) throw error;
    throw new UserError(400, `--context: ${path}: ${error.message}`, { cause: error });
  }
}
