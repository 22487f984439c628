// Whether a manager can answer where it is to. A node whose address or port is not to be had goes on as a node.
import { once } from "node:events";
import { createServer } from "node:net";
import { CannotLeadError } from "../leader/store.ts";
import { delay, systemClock } from "../lib/clock.ts";
import { messageOf, UserError } from "../lib/errors.ts";
import type { SessionAddress } from "./compile-denied.ts";
import type { Part } from "./parts.ts";

const LOOK_MS = 2000;

/** The error of a manager whose `listen` another process has, or no link of this machine. */
export class CannotListenError extends CannotLeadError {
  override name = "CannotListenError";
  readonly listen: SessionAddress;

  constructor(listen: SessionAddress, reason: string, options: ErrorOptions) {
    const mend = `free it, or name another in 'cluster.listen' and restart overlayd`;
    super(`a manager cannot answer at ${listen.address}:${listen.port}: ${reason}`, mend, options);
    this.listen = listen;
  }
}

/** Throws CannotListenError when a server could not have the address now. */
export async function requireListen(listen: SessionAddress): Promise<void> {
  const server = createServer();
  try {
    await once(server.listen({ host: listen.address, port: listen.port }), "listening");
  } catch (cause) {
    throw new CannotListenError(listen, reasonOf(cause), { cause });
  } finally {
    server.close();
  }
}

/** As `requireListen`, for the address that a person asked for. Throws UserError 409 before anything is changed. */
export async function requireAskedListen(listen: SessionAddress): Promise<void> {
  await requireListen(listen).catch((cause: unknown) => {
    const { address, port } = listen;
    const mend = "give another with '--listen', '--advertise' or 'cluster.listen', or free this one";
    const reason = reasonOf((cause as CannotListenError).cause);
    throw new UserError(409, `this node cannot answer at ${address}:${port}: ${reason}; ${mend}`, { cause });
  });
}

/** Calls `then` once when a server could have the address. */
export function onceFree(listen: SessionAddress, then: () => void): Part {
  const stopped = new AbortController();
  const look = async (): Promise<void> => {
    while (!stopped.signal.aborted) {
      await delay(systemClock, LOOK_MS, stopped.signal);
      const isFree = await requireListen(listen).then(
        () => true,
        () => false,
      );
      if (isFree && !stopped.signal.aborted) return then();
    }
  };
  void look();
  return { stop: () => stopped.abort() };
}

function reasonOf(error: unknown): string {
  const { code } = error as NodeJS.ErrnoException;
  if (code === "EADDRINUSE") return "another process has that port ('ss -ltnp' shows it)";
  if (code === "EADDRNOTAVAIL") return "no link of this machine has that address";
  return messageOf(error);
}
