// The UDP and the TCP socket of one address. Opens both or neither.
import { createSocket, type Socket as UdpSocket } from "node:dgram";
import { once } from "node:events";
import { createServer, type Server as TcpServer, type Socket as TcpSocket } from "node:net";
import type { Clock } from "../lib/clock.ts";
import { type Ipv4, ipv4, parseIpv4 } from "../lib/ip.ts";
import { Shares } from "./shares.ts";
import { type Receive, TcpSession } from "./tcp-session.ts";

/** Room for more than 1,000 questions that come at once, with what the kernel needs for each. */
const RECEIVE_BUFFER_BYTES = 4 * 1024 * 1024;
const MAX_CONNECTIONS = 256;
const MAX_CONNECTIONS_PER_CLIENT = 32;

/** Opens and binds a UDP socket, and returns its descriptor. Throws the system's error. */
export type OpenUdp = (address: Ipv4, port: number, receiveBytes: number) => number;

export interface ListenerOptions {
  readonly address: string;
  /** 0: one that is free for both. */
  readonly port: number;
  readonly clock: Clock;
  /** Makes the UDP socket. Left out: node makes it, and net.core.rmem_max bounds its receive buffer. */
  readonly openUdp?: OpenUdp | undefined;
  receiveUdp(message: Buffer, source: Ipv4, reply: (response: Buffer) => void): void;
  receiveTcp(source: Ipv4, ...message: Parameters<Receive>): ReturnType<Receive>;
  /** Called when a connection is turned away, or ended to make room for another client's first one. */
  onLimited(): void;
  /** Called when the sockets have failed; the listener is closed. */
  onError(error: Error): void;
}

interface Connection {
  readonly client: Ipv4;
  readonly session: TcpSession;
}

export class Listener {
  readonly address: string;
  readonly port: number;
  readonly #options: ListenerOptions;
  readonly #udp: UdpSocket;
  readonly #tcp: TcpServer;
  // BOUNDED: by MAX_CONNECTIONS.
  readonly #connections = new Set<Connection>();
  readonly #shares = new Shares(MAX_CONNECTIONS, MAX_CONNECTIONS_PER_CLIENT);
  #closed = false;

  private constructor(options: ListenerOptions, udp: UdpSocket, tcp: TcpServer) {
    this.address = options.address;
    this.port = udp.address().port;
    this.#options = options;
    this.#udp = udp;
    this.#tcp = tcp;
    udp.on("message", (message, from) => {
      const source = parseIpv4(from.address);
      // A sender with port 0 expects no answer (RFC 768), and none can be sent there.
      if (source === undefined || from.port === 0) return;
      options.receiveUdp(message, source, (response) => this.#send(response, from.port, from.address));
    });
    tcp.on("connection", (socket) => this.#accept(socket));
    for (const socket of [udp, tcp]) socket.on("error", (error: Error) => this.#fail(error));
  }

  /** Throws the system's error when an address or port cannot be had. */
  static async open(options: ListenerOptions): Promise<Listener> {
    const udp = createSocket({
      type: "udp4",
      recvBufferSize: RECEIVE_BUFFER_BYTES,
      // Clients are given as addresses; the default looks each of them up, in a later tick.
      lookup: (address, _options, found) => found(null, address, 4),
    });
    const tcp = createServer({ allowHalfOpen: true });
    try {
      const bound = once(udp, "listening"); // before bind(), which with that lookup is done at once
      const { address, port, openUdp } = options;
      udp.bind({
        ...(openUdp === undefined ? { address, port } : { fd: openUdp(ipv4(address), port, RECEIVE_BUFFER_BYTES) }),
        exclusive: true,
      });
      await bound;
      tcp.listen({ port: udp.address().port, host: options.address, exclusive: true });
      await once(tcp, "listening");
    } catch (error) {
      udp.close();
      tcp.close();
      throw error;
    }
    return new Listener(options, udp, tcp);
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#udp.close();
    this.#tcp.close();
    for (const { session } of this.#connections) session.end();
  }

  #fail(error: Error): void {
    if (this.#closed) return;
    this.close();
    this.#options.onError(error);
  }

  #send(response: Buffer, port: number, address: string): void {
    if (this.#closed) return;
    // No callback: a datagram that cannot be sent is as one that is lost on the way, and the client asks again.
    this.#udp.send(response, port, address);
  }

  #accept(socket: TcpSocket): void {
    const source = parseIpv4(socket.remoteAddress ?? "");
    if (source === undefined) {
      socket.destroy(); // gone already
      return;
    }
    if (!this.#shares.hasRoomFor(source)) {
      this.#options.onLimited();
      if (this.#shares.of(source) > 0 || !this.#endLongestIdle()) {
        socket.destroy();
        return;
      }
    }
    const receive: Receive = (...message) => this.#options.receiveTcp(source, ...message);
    const connection = { client: source, session: new TcpSession(socket, this.#options.clock, receive) };
    this.#connections.add(connection);
    this.#shares.take(source);
    socket.on("close", () => this.#forget(connection));
  }

  /** Makes room for a client that has no connection: the client that has most loses the one that is idle longest. */
  #endLongestIdle(): boolean {
    const largest = this.#shares.largest();
    if (largest === undefined || largest.places < 2) return false;
    const own = [...this.#connections].filter(({ client }) => client === largest.client);
    const idlest = own.reduce((a, b) => (b.session.activeMs < a.session.activeMs ? b : a));
    this.#forget(idlest);
    idlest.session.end();
    return true;
  }

  #forget(connection: Connection): void {
    if (this.#connections.delete(connection)) this.#shares.give(connection.client);
  }
}
