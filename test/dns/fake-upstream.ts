// A resolver on a free port of loopback that answers as a test says, and remembers what it was asked.
import { createSocket, type Socket as UdpSocket } from "node:dgram";
import { once } from "node:events";
import { createServer, isIPv6, type Server } from "node:net";
import { type DecodedPacket, decode, encode, type Packet } from "dns-packet";
import type { OpenUdp } from "../../src/dns/listener.ts";
import { TcpFrames } from "../../src/dns/tcp-frames.ts";
import { ipv4 } from "../../src/lib/ip.ts";

const MUCH_BYTES = 4 << 20;

/** undefined: says nothing. A Buffer is sent as it is. */
export type Behaviour = (
  query: DecodedPacket,
  transport: "udp" | "tcp",
) => Packet | Buffer | undefined | Promise<Packet | Buffer | undefined>;

export class FakeUpstream {
  /** `udp NAME TYPE`, in order. */
  readonly asked: string[] = [];
  /** Source ports and ids of the datagrams. */
  readonly ports: number[] = [];
  readonly ids: number[] = [];
  behaviour: Behaviour;
  readonly #udp: UdpSocket;
  readonly #tcp: Server;

  private constructor(behaviour: Behaviour, udp: UdpSocket, tcp: Server) {
    this.behaviour = behaviour;
    this.#udp = udp;
    this.#tcp = tcp;
    udp.on("message", async (message, from) => {
      this.ports.push(from.port);
      const reply = await this.#answer(message, "udp");
      if (reply !== undefined) udp.send(reply, from.port, from.address);
    });
    tcp.on("connection", (socket) => {
      const frames = new TcpFrames();
      socket.on("error", () => {});
      socket.on("data", async (chunk) => {
        frames.push(chunk);
        for (let message = frames.next(); message !== undefined; message = frames.next()) {
          const reply = await this.#answer(message, "tcp");
          if (reply !== undefined) socket.write(TcpFrames.frame(reply));
        }
      });
    });
  }

  /** On 127.0.0.1, or on another address such as ::1; on a port that is free, or on `port`. `openUdp`: see ListenerOptions. */
  static async start(behaviour: Behaviour, address = "127.0.0.1", port = 0, openUdp?: OpenUdp): Promise<FakeUpstream> {
    for (;;) {
      const udp = createSocket(isIPv6(address) ? "udp6" : "udp4");
      const tcp = createServer();
      const bound = once(udp, "listening"); // before bind(), which is done at once with a descriptor
      udp.bind(openUdp === undefined ? { port, address } : { fd: openUdp(ipv4(address), port, MUCH_BYTES) });
      await bound;
      try {
        tcp.listen(udp.address().port, address);
        await once(tcp, "listening");
        return new FakeUpstream(behaviour, udp, tcp);
      } catch (error) {
        udp.close();
        if (port !== 0) throw error; // else the TCP port is somebody's: another pair
      }
    }
  }

  get text(): string {
    const { address, port } = this.#udp.address();
    return isIPv6(address) ? `[${address}]:${port}` : `${address}:${port}`;
  }

  stop(): void {
    this.#udp.close();
    this.#tcp.close();
  }

  async #answer(message: Buffer, transport: "udp" | "tcp"): Promise<Buffer | undefined> {
    const query = decode(message);
    const [question] = query.questions!;
    this.asked.push(`${transport} ${question!.name} ${question!.type}`);
    this.ids.push(query.id!);
    const packet = await this.behaviour(query, transport);
    if (packet === undefined || Buffer.isBuffer(packet)) return packet;
    return encode({ type: "response", id: query.id!, questions: query.questions!, ...packet });
  }
}

/** Answers every question with one A record. */
export function answering(address: string, ttl = 60): Behaviour {
  return (query) => ({ answers: [{ type: "A", name: query.questions![0]!.name, ttl, data: address }] });
}
