// Ends the connections of those whose certificate is worth nothing any more: removed from the cluster, or expired.
import type { Server as SecureServer } from "node:https";
import type { TLSSocket } from "node:tls";
import type { State } from "../cluster/tables.ts";
import type { Clock, Timer } from "../lib/clock.ts";
import { messageOf } from "../lib/errors.ts";
import type { Log } from "../lib/log.ts";
import { requireCaller } from "./authority.ts";
import { addressOf, identify } from "./identify.ts";

const EVERY_MS = 1000;

interface EndRevokedOptions {
  state(): State;
  /** Throws when this manager does not lead: then its state has no users. */
  calls(): unknown;
  clock: Clock;
  log: Log;
}

/** Until the returned function is called. Loops over the connections, once a second. */
export function endRevoked(server: SecureServer, { state, calls, clock, log }: EndRevokedOptions): () => void {
  // BOUNDED: by the server's connections.
  const sockets = new Set<TLSSocket>();
  server.on("secureConnection", (socket) => {
    sockets.add(socket);
    socket.once("close", () => sockets.delete(socket));
  });
  let timer: Timer;
  const look = (): void => {
    for (const socket of sockets) {
      // Without a certificate it is refused at each request.
      if (!socket.authorized || state().cluster === null) continue;
      try {
        const { subject } = identify(socket);
        if (subject.kind === "node" || isLeading(calls)) requireCaller(state(), subject, clock.now());
      } catch (error) {
        log.warn("ends a connection", { address: addressOf(socket), reason: messageOf(error) });
        socket.destroy();
      }
    }
    timer = clock.after(EVERY_MS, look);
  };
  look();
  return () => timer.cancel();
}

function isLeading(calls: () => unknown): boolean {
  try {
    calls();
    return true;
  } catch {
    return false;
  }
}
