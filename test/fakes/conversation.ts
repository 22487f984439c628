// A TCP connection between two containers, segment by segment, with the numbers that its ends would send.
import { ACK, FIN, PSH, RST, SYN } from "./ip-packets.ts";
import type { LaneNodes, Trip } from "./lane-nodes.ts";

interface End {
  readonly node: number;
  readonly address: string;
  next: number;
}

interface ConversationOptions {
  client: [node: number, address: string];
  server: [node: number, address: string];
  /** Where the client sends to; left out: the server. */
  vip?: string;
  sourcePort?: number;
}

export class Conversation {
  readonly #lanes: LaneNodes;
  readonly #client: End;
  readonly #server: End;
  readonly #vip: string;
  readonly #sourcePort: number;

  constructor(lanes: LaneNodes, { client, server, vip, sourcePort = 40_000 }: ConversationOptions) {
    this.#lanes = lanes;
    this.#client = { node: client[0], address: client[1], next: 1000 };
    this.#server = { node: server[0], address: server[1], next: 5_000_000 };
    this.#vip = vip ?? server[1];
    this.#sourcePort = sourcePort;
  }

  /** A segment of the client. */
  client(flags: number, bytes = 0): Trip {
    const [own, other] = [this.#client, this.#server];
    const ports = { sourcePort: this.#sourcePort, destinationPort: 80 };
    return this.#send(own, other, this.#vip, flags, bytes, ports);
  }

  /** A segment of the server. */
  server(flags: number, bytes = 0): Trip {
    const [own, other] = [this.#server, this.#client];
    const ports = { sourcePort: 80, destinationPort: this.#sourcePort };
    return this.#send(own, other, other.address, flags, bytes, ports);
  }

  /** The handshake; says who carried its segments. */
  open(): string[] {
    return [this.client(SYN).by, this.server(SYN | ACK).by, this.client(ACK).by];
  }

  /** Data both ways, each acknowledged; says who carried it. */
  exchange(bytes = 100): string[] {
    return [this.client(ACK | PSH, bytes).by, this.server(ACK | PSH, bytes).by, this.client(ACK).by];
  }

  /** Both ends close. */
  close(): string[] {
    return [this.client(FIN | ACK).by, this.server(FIN | ACK).by, this.client(ACK).by];
  }

  /** The client's reset. */
  reset(): string {
    return this.client(RST).by;
  }

  #send(own: End, other: End, destination: string, flags: number, bytes: number, ports: object): Trip {
    const acknowledgment = (flags & ACK) === 0 ? 0 : other.next;
    const payload = new Uint8Array(bytes).fill(7);
    const fields = { source: own.address, destination, ...ports, flags, sequence: own.next, acknowledgment, payload };
    const trip = this.#lanes.send(own.node, fields);
    own.next += bytes + ((flags & (SYN | FIN)) === 0 ? 0 : 1);
    return trip;
  }
}
