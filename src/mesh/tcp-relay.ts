// Relays TCP connections to one target, each direction closed on its own.
import { once } from "node:events";
import { type AddressInfo, connect, createServer, type Socket } from "node:net";
import { messageOf } from "../lib/errors.ts";
import { proxyHeader } from "./proxy-protocol.ts";
import { countFull, type Relay, type RelayOptions } from "./relay.ts";

/** Connections of one port. The next are refused. */
const MAX_CONNECTIONS = 4096;
/** So long the half of a connection that is left may be silent, as nf_conntrack has it: of the other nothing is read any
 * more, so that a reset would not be noticed. */
const HALF_CLOSED_MS = 120_000;
/** An end that is gone without a word is found so. */
const SOCKET = { allowHalfOpen: true, noDelay: true, keepAlive: true, keepAliveInitialDelay: 60_000 };

export interface TcpRelayOptions extends RelayOptions {
  /** Tells the target who the client is. */
  proxyProtocol: boolean;
  maxConnections?: number;
  halfClosedMs?: number;
}

/** Rejects with the system's error when the port cannot be had. */
export async function listenTcp(options: TcpRelayOptions): Promise<Relay> {
  const { log, drops, address, port, target, proxyProtocol, maxConnections = MAX_CONNECTIONS } = options;
  const { halfClosedMs = HALF_CLOSED_MS } = options;
  const what = `${port}/tcp`;
  const sockets = new Set<Socket>(); // BOUNDED: two a connection, maxConnections

  function join(socket: Socket, other: Socket, failed: () => void): void {
    sockets.add(socket);
    socket.pipe(other);
    socket.on("end", () => {
      other.setTimeout(halfClosedMs, () => {
        failed();
        abort(socket);
        abort(other);
      });
    });
    socket.on("close", () => sockets.delete(socket));
    socket.on("error", (error) => {
      failed();
      log.debug("a relayed connection broke", { port: what, reason: messageOf(error) });
      abort(other);
    });
  }

  const server = createServer(SOCKET, (client) => {
    const task = connect({ ...SOCKET, host: target.address, port: target.port });
    let isTaken = false;
    task.once("connect", () => {
      isTaken = true;
    });
    if (proxyProtocol) tellClient(task, client);
    join(client, task, () => drops["relay-broken"]++);
    join(task, client, () => drops[isTaken ? "relay-broken" : "relay-no-task"]++);
  });
  server.maxConnections = maxConnections;
  server.on("drop", countFull(options, what, maxConnections));
  server.listen(port, address);
  await once(server, "listening");
  server.on("error", (error) => log.error("a published port fails", { port: what, err: error }));
  return {
    port: (server.address() as AddressInfo).port,
    async close() {
      for (const socket of sockets) abort(socket);
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

/** A connection that is not there yet has nothing to reset, and would be waited for. */
function abort(socket: Socket): void {
  if (socket.connecting) socket.destroy();
  else socket.resetAndDestroy();
}

/** A client that is gone already has no addresses, and nothing to say either. */
function tellClient(task: Socket, { remoteAddress, remotePort, localAddress, localPort }: Socket): void {
  if (remoteAddress === undefined || remotePort === undefined) return;
  if (localAddress === undefined || localPort === undefined) return;
  const client = { address: remoteAddress, port: remotePort };
  task.write(proxyHeader({ client, server: { address: localAddress, port: localPort } }));
}
