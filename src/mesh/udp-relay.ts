// Relays UDP datagrams to one target, with a socket for each client so that answers find back.
import { createSocket, type RemoteInfo, type Socket } from "node:dgram";
import { once } from "node:events";
import type { Timer } from "../lib/clock.ts";
import { messageOf } from "../lib/errors.ts";
import type { Relay } from "./proxy-mesh.ts";
import type { RelayOptions } from "./tcp-relay.ts";

/** Clients of one port; the one that was silent longest makes room for the next. */
const MAX_SESSIONS = 1024;
/** As nf_conntrack for a stream of UDP. */
const IDLE_MS = 120_000;

interface Session {
  socket: Socket;
  usedAt: number;
}

/** Rejects with the system's error when the port cannot be had. */
export async function listenUdp({ log, clock, address, port, target }: RelayOptions): Promise<Relay> {
  const server = createSocket("udp4");
  // BOUNDED: by MAX_SESSIONS; keyed by the client's ADDRESS:PORT, the one used last is last.
  const sessions = new Map<string, Session>();
  let sweep: Timer | undefined;

  function end(key: string, { socket }: Session): void {
    sessions.delete(key);
    socket.close();
  }

  function open(key: string, client: RemoteInfo): Session {
    const [oldest] = sessions;
    if (sessions.size >= MAX_SESSIONS && oldest !== undefined) end(...oldest);
    const session = { socket: createSocket("udp4"), usedAt: clock.monotonic() };
    session.socket.on("message", (data, from) => {
      if (from.address !== target.address || from.port !== target.port) return;
      session.usedAt = clock.monotonic();
      server.send(data, client.port, client.address);
    });
    session.socket.on("error", (error) => {
      log.debug("a relayed client was given up", { port: `${port}/udp`, reason: messageOf(error) });
      if (sessions.get(key) === session) end(key, session);
    });
    return session;
  }

  function expire(): void {
    const limit = clock.monotonic() - IDLE_MS;
    for (const [key, session] of sessions) if (session.usedAt <= limit) end(key, session);
    sweep = clock.after(IDLE_MS / 4, expire);
  }

  server.on("message", (data, client) => {
    if (client.port === 0) return; // no answer could be sent there
    const key = `${client.address}:${client.port}`;
    const session = sessions.get(key) ?? open(key, client);
    session.usedAt = clock.monotonic();
    sessions.delete(key);
    sessions.set(key, session);
    session.socket.send(data, target.port, target.address);
  });
  server.bind(port, address ?? "0.0.0.0");
  await once(server, "listening");
  server.on("error", (error) => log.error("a published port fails", { port: `${port}/udp`, err: error }));
  expire();
  return {
    port: server.address().port,
    async close() {
      sweep?.cancel();
      for (const entry of sessions) end(...entry);
      await new Promise<void>((resolve) => server.close(resolve));
    },
  };
}
