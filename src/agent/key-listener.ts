// Where this node answers peers that dial to agree on keys: TLS on a TCP port of the node's address. Hosts that are no nodes get no handshake.
import { once } from "node:events";
import { createServer, type Server, type Socket } from "node:net";
import { createServer as createTlsServer, type TLSSocket } from "node:tls";
import type { Credentials } from "../trust/credentials.ts";
import { followCredentials, serverTls } from "../trust/tls.ts";
import { EXCHANGE_MS } from "./peer-exchange.ts";

/** Exchanges that other nodes have begun. What comes beyond is closed, and its peer dials again. */
const MOST_CONNECTIONS = 256;
const MOST_OF_ONE = 8;

interface Answering {
  credentials: Credentials;
  /** Whether the address is a node's. */
  isNode: (address: string) => boolean;
  /** Called with each connection whose handshake is done; `peerOf` says who has dialled, or why it is refused. */
  answer: (socket: TLSSocket) => void;
}

export class KeyListener {
  readonly #server: Server;
  readonly #sockets = new Set<Socket>(); // BOUNDED: by MOST_CONNECTIONS
  #answer: ((socket: Socket) => void) | undefined;
  #stopFollowing: (() => void) | undefined;
  #closed: Promise<void> | undefined;

  /** Resolves when the port is this node's. Rejects with the error of listen(2). */
  static async open(at: { host: string; port: number }): Promise<KeyListener> {
    const server = createServer();
    await once(server.listen(at), "listening");
    return new KeyListener(server);
  }

  private constructor(server: Server) {
    this.#server = server;
    server.maxConnections = MOST_CONNECTIONS;
    server.on("connection", (socket) => {
      if (this.#answer === undefined) socket.destroy();
      else this.#answer(socket);
    });
    server.on("error", () => {}); // of one connection that it could not take
  }

  get port(): number {
    const address = this.#server.address();
    return typeof address === "object" ? (address?.port ?? 0) : 0;
  }

  /** Connections before this are closed at once. */
  answer({ credentials, isNode, answer }: Answering): void {
    const tls = createTlsServer({ ...serverTls(credentials), handshakeTimeout: EXCHANGE_MS }, answer);
    this.#stopFollowing = followCredentials(tls, credentials);
    this.#answer = (socket) => {
      const from = socket.remoteAddress ?? "";
      const others = [...this.#sockets].filter(({ remoteAddress }) => remoteAddress === from).length;
      if (!isNode(from) || others >= MOST_OF_ONE) return void socket.destroy();
      this.#sockets.add(socket);
      socket.once("close", () => this.#sockets.delete(socket));
      tls.emit("connection", socket);
    };
  }

  close(): Promise<void> {
    this.#closed ??= this.#close();
    return this.#closed;
  }

  async #close(): Promise<void> {
    this.#stopFollowing?.();
    const closed = once(this.#server, "close");
    this.#server.close();
    for (const socket of this.#sockets) socket.destroy();
    await closed;
  }
}
