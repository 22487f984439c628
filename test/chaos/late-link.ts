// A way to one member of etcd on which requests can be held up: they arrive in the end, also those that their sender has given
// up long ago. So it is the compare in etcd that has to refuse them.
import { once } from "node:events";
import { type AddressInfo, connect, createServer, type Server, type Socket } from "node:net";

/** How long a member may still take to carry out what has arrived last, before it hears that the sender has gone. */
const GONE_MS = 2000;

interface Connection {
  client: Socket;
  member: Socket;
  // BOUNDED: by what a manager sends until it gives up. Bytes that are held up.
  held: Buffer[];
}

export class LateLink {
  readonly #server: Server;
  // BOUNDED: by the manager's connections to its member.
  readonly #connections = new Set<Connection>();
  #isHeldUp = false;

  private constructor(server: Server) {
    this.#server = server;
  }

  /** `endpoint` is HOST:PORT of the member. */
  static async open(endpoint: string): Promise<LateLink> {
    const [host, port] = endpoint.split(":");
    const server = createServer();
    const link = new LateLink(server);
    server.on("connection", (client) => link.#join(client, connect(Number(port), host)));
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    return link;
  }

  /** HOST:PORT to ask instead of the member. */
  get endpoint(): string {
    return `127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  holdUp(): void {
    this.#isHeldUp = true;
  }

  /** What was held up arrives. */
  release(): void {
    this.#isHeldUp = false;
    for (const { member, held } of this.#connections) for (const bytes of held.splice(0)) member.write(bytes);
    for (const connection of this.#connections) if (connection.client.destroyed) this.#end(connection);
  }

  close(): void {
    this.#server.close();
    for (const { client, member } of this.#connections) {
      client.destroy();
      member.destroy();
    }
  }

  #join(client: Socket, member: Socket): void {
    const connection: Connection = { client, member, held: [] };
    this.#connections.add(connection);
    client.on("data", (bytes) => {
      if (this.#isHeldUp) connection.held.push(bytes);
      else member.write(bytes);
    });
    client.once("close", () => !this.#isHeldUp && this.#end(connection));
    member.on("data", (bytes) => !client.destroyed && client.write(bytes));
    member.once("close", () => {
      this.#connections.delete(connection);
      client.destroy();
    });
    for (const socket of [client, member]) socket.on("error", () => {}); // it closes
  }

  #end({ member }: Connection): void {
    setTimeout(() => member.destroy(), GONE_MS).unref();
  }
}
