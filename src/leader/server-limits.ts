// What keeps hosts that reach a manager's port from taking its room: limits of connections, of handshakes, of time.
import type { Server as SecureServer } from "node:https";
import type { Socket } from "node:net";
import type { FastifyInstance, FastifyRequest } from "fastify";

/** How long a connection may be idle between two requests: longer than a node's beat. */
const KEEP_ALIVE_MS = 72_000;
/** How many connections all hosts together may have. A node has two or three. */
const MAX_CONNECTIONS = 8192;
/** How many connections one address may have. Each log that a client follows takes one. */
const MAX_CONNECTIONS_OF_ONE = 1024;
/** How many connections whose handshake is not done all hosts together may have, and one address. */
const MAX_HANDSHAKES = 2048;
const MAX_HANDSHAKES_OF_ONE = 256;

/** Bytes that come as they are made, such as a log: their body has no time limit. */
export const BYTES = "application/octet-stream";

/** How many there are, and of each address. BOUNDED: by the connections; keyed by address. */
class Count {
  readonly #byAddress = new Map<string, number>();
  #total = 0;

  get total(): number {
    return this.#total;
  }

  of(address: string): number {
    return this.#byAddress.get(address) ?? 0;
  }

  add(address: string): void {
    this.#total++;
    this.#byAddress.set(address, this.of(address) + 1);
  }

  remove(address: string): void {
    this.#total--;
    const left = this.of(address) - 1;
    if (left === 0) this.#byAddress.delete(address);
    else this.#byAddress.set(address, left);
  }
}

/** Ends connections of hosts that send no request or connect too often, so that they take no room from others. */
export function limitConnections(server: SecureServer, handshakes: Handshakes, timeoutMs: number): void {
  server.headersTimeout = timeoutMs;
  server.requestTimeout = 0; // Node's own would end what comes as it is made, see limitBodies
  server.keepAliveTimeout = KEEP_ALIVE_MS;
  server.maxConnections = MAX_CONNECTIONS;
  const connections = new Count();
  server.on("connection", (socket: Socket) => {
    const address = socket.remoteAddress ?? "";
    connections.add(address);
    socket.once("close", () => connections.remove(address));
    if (handshakes.areTooMany(address) || connections.of(address) > MAX_CONNECTIONS_OF_ONE) socket.destroy();
  });
}

/** The connections whose handshake is not done. */
export class Handshakes {
  // BOUNDED: by MAX_HANDSHAKES; keyed by the connection's two ends, for TLS has sockets of its own over those.
  readonly #pending = new Map<string, { socket: Socket; address: string }>();
  readonly #count = new Count();

  /** To be made before other listeners of the server are added. */
  constructor(server: SecureServer) {
    server.on("connection", (socket: Socket) => {
      const key = keyOf(socket);
      const address = socket.remoteAddress ?? "";
      this.#pending.set(key, { socket, address });
      this.#count.add(address);
      socket.once("close", () => this.#end(key));
    });
    server.on("secureConnection", (socket) => this.#end(keyOf(socket)));
  }

  areTooMany(address: string): boolean {
    return this.#count.total > MAX_HANDSHAKES || this.#count.of(address) > MAX_HANDSHAKES_OF_ONE;
  }

  /** The connection beneath a TLS socket. */
  under(secure: Socket): Socket | undefined {
    return this.#pending.get(keyOf(secure))?.socket;
  }

  destroyAll(): void {
    for (const { socket } of this.#pending.values()) socket.destroy();
  }

  #end(key: string): void {
    const ended = this.#pending.get(key);
    if (ended === undefined) return;
    this.#pending.delete(key);
    this.#count.remove(ended.address);
  }
}

function keyOf({ remoteAddress, remotePort, localAddress, localPort }: Socket): string {
  return `${remoteAddress} ${remotePort} ${localAddress} ${localPort}`;
}

/** Ends a request whose body does not come in time. The server's own limit would also end logs, which come as they are written. */
export function limitBodies(server: FastifyInstance, timeoutMs: number): void {
  const timers = new WeakMap<FastifyRequest, NodeJS.Timeout>();
  server.addHook("onRequest", async (request) => {
    if (request.headers["content-type"] === BYTES) return;
    timers.set(
      request,
      setTimeout(() => request.raw.destroy(), timeoutMs),
    );
  });
  server.addHook("preValidation", async (request) => clearTimeout(timers.get(request)));
  server.addHook("onRequestAbort", async (request) => clearTimeout(timers.get(request)));
  server.addHook("onError", async (request) => clearTimeout(timers.get(request)));
}
