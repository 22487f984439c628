// Relays TCP connections to one target, each direction closed on its own.
import { once } from "node:events";
import { type AddressInfo, connect, createServer, type Socket } from "node:net";
import type { Clock } from "../lib/clock.ts";
import { messageOf } from "../lib/errors.ts";
import type { Log } from "../lib/log.ts";
import type { Relay } from "./proxy-mesh.ts";
import { proxyHeader } from "./proxy-protocol.ts";

/** Connections of one port. The next are refused. */
const MAX_CONNECTIONS = 4096;

export interface RelayOptions {
  log: Log;
  clock: Clock;
  /** null: every one. */
  address: string | null;
  /** 0: any. */
  port: number;
  target: { address: string; port: number };
}

export interface TcpRelayOptions extends RelayOptions {
  /** Tells the target who the client is. */
  proxyProtocol: boolean;
}

/** Rejects with the system's error when the port cannot be had. */
export async function listenTcp({ log, address, port, target, proxyProtocol }: TcpRelayOptions): Promise<Relay> {
  const sockets = new Set<Socket>(); // BOUNDED: two a connection, MAX_CONNECTIONS
  const server = createServer({ allowHalfOpen: true }, (client) => {
    const task = connect({ host: target.address, port: target.port, allowHalfOpen: true });
    if (proxyProtocol) tellClient(task, client);
    for (const [socket, other] of [
      [client, task],
      [task, client],
    ] as const) {
      sockets.add(socket);
      socket.setNoDelay(true);
      socket.pipe(other);
      socket.on("error", (error) => {
        log.debug("a relayed connection broke", { port: `${port}/tcp`, reason: messageOf(error) });
        other.resetAndDestroy();
      });
      socket.on("close", () => sockets.delete(socket));
    }
  });
  server.maxConnections = MAX_CONNECTIONS;
  server.listen(port, address ?? "0.0.0.0");
  await once(server, "listening");
  server.on("error", (error) => log.error("a published port fails", { port: `${port}/tcp`, err: error }));
  return {
    port: (server.address() as AddressInfo).port,
    async close() {
      for (const socket of sockets) socket.resetAndDestroy();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

/** A client that is gone already has no addresses, and nothing to say either. */
function tellClient(task: Socket, { remoteAddress, remotePort, localAddress, localPort }: Socket): void {
  if (remoteAddress === undefined || remotePort === undefined) return;
  if (localAddress === undefined || localPort === undefined) return;
  const client = { address: remoteAddress, port: remotePort };
  task.write(proxyHeader({ client, server: { address: localAddress, port: localPort } }));
}
