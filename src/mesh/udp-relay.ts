// Relays UDP datagrams to one target, with a socket for each client so that answers find back. It listens on one
// address, for answers have to come from the one that was asked.
import { createSocket, type RemoteInfo, type Socket } from "node:dgram";
import { once } from "node:events";
import type { Timer } from "../lib/clock.ts";
import { messageOf } from "../lib/errors.ts";
import { countFull, type Relay, type RelayOptions } from "./relay.ts";

/** Clients of one port; the one that was silent longest makes room for the next. */
const MAX_SESSIONS = 1024;
/** As nf_conntrack for a stream of UDP. */
const IDLE_MS = 120_000;

interface Session {
  socket: Socket;
  usedAt: number;
}

/** Rejects with the system's error when the port cannot be had. */
export async function listenUdp(options: RelayOptions & { maxSessions?: number }): Promise<Relay> {
  const { log, clock, drops, address, port, target, maxSessions = MAX_SESSIONS } = options;
  const what = `${port}/udp`;
  const server = createSocket("udp4");
  // BOUNDED: by maxSessions; keyed by the client's ADDRESS:PORT, the one used last is last.
  const sessions = new Map<string, Session>();
  const full = countFull(options, what, maxSessions);
  let sweep: Timer | undefined;

  function sent(error: Error | null): void {
    if (error !== null) drops["relay-unsent"]++;
  }

  function end(key: string, { socket }: Session): void {
    sessions.delete(key);
    socket.close();
  }

  function open(key: string, client: RemoteInfo): Session {
    const [oldest] = sessions;
    if (sessions.size >= maxSessions && oldest !== undefined) {
      full();
      end(...oldest);
    }
    const session = { socket: createSocket("udp4"), usedAt: clock.monotonic() };
    session.socket.on("message", (data, from) => {
      if (from.address !== target.address || from.port !== target.port) {
        drops["relay-stray"]++;
        return;
      }
      session.usedAt = clock.monotonic();
      server.send(data, client.port, client.address, sent);
    });
    session.socket.on("error", (error) => {
      drops["relay-broken"]++;
      log.debug("a relayed client was given up", { port: what, reason: messageOf(error) });
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
    if (client.port === 0) {
      drops["relay-stray"]++; // no answer could be sent there
      return;
    }
    const key = `${client.address}:${client.port}`;
    const session = sessions.get(key) ?? open(key, client);
    session.usedAt = clock.monotonic();
    sessions.delete(key);
    sessions.set(key, session);
    session.socket.send(data, target.port, target.address, sent);
  });
  server.bind(port, address);
  try {
    await once(server, "listening");
  } catch (error) {
    server.close(); // it has its descriptor, though not the port
    throw error;
  }
  server.on("error", (error) => log.error("a published port fails", { port: what, err: error }));
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
