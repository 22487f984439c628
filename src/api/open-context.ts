// Opens a user's file: the way to the managers of its cluster. Loaded only for `--context`, for TLS takes time to load.
import { isDeepStrictEqual } from "node:util";
import { messageOf, UserError } from "../lib/errors.ts";
import { Credentials } from "../trust/credentials.ts";
import { ClientConnections } from "../trust/tls.ts";
import { TrustError } from "../trust/trust-error.ts";
import { keepManagers, readContextFile } from "./context-file.ts";
import { ManagersTarget } from "./managers-target.ts";
import type { ApiTarget } from "./target.ts";

/** Calls `warn` with what the file's owner should know. Throws UserError that names the file. */
export function openContext(path: string, warn: (text: string) => void): ApiTarget {
  const { context, isOpen } = readContextFile(path);
  if (isOpen) warn(`other users of this machine may read ${path}, and its private key: chmod 600 ${path}`);
  const named = [...new Set([...context.managers, ...context.currentManagers])];
  const heard = (managers: readonly string[]): void => {
    if (managers.length === 0 || isDeepStrictEqual(managers, context.currentManagers)) return;
    if (context.currentManagers.length === 0 && managers.every((manager) => named.includes(manager))) return;
    try {
      keepManagers(path, managers);
    } catch (error) {
      const others = managers.filter((manager) => !named.includes(manager));
      if (others.length === 0) return;
      warn(
        `${path} lacks managers that the cluster has now, and cannot be changed (${messageOf(error)}): write ${others.join(", ")} into its 'managers'`,
      );
    }
  };
  try {
    const connections = new ClientConnections(new Credentials(context), { role: "manager" });
    return new ManagersTarget(named, connections, heard);
  } catch (error) {
    if (!(error instanceof TrustError)) throw error;
    throw new UserError(400, `--context: ${path}: ${error.message}`, { cause: error });
  }
}
