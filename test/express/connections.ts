// Connections through two in-process agents, and their entries in the lane of the first one's node.
import type { LaneEntry } from "../../src/express/entry.ts";
import { ipv4 } from "../../src/lib/ip.ts";
import { Gso } from "../../src/packet/virtio-net.ts";
import type { Datagram } from "../fakes/in-process.ts";
import { ACK, completed, type Fields, ipPacket, SYN } from "../fakes/ip-packets.ts";
import type { FakeNodes } from "../fakes/nodes.ts";
import { cluster, exchange, WEB } from "../fakes/two-nodes.ts";
import { fromPeer, LOCAL, ports, REMOTE, toPeer } from "./lane-rig.ts";

const PORT = 9200;

export interface Connection {
  fake: FakeNodes;
  protocol: "tcp" | "udp";
  /** The address that the client sends to. */
  target: string;
  clientPort: number;
  /** Datagrams that were on the wire, since they were taken last. */
  wire: Datagram[];
}

/** A packet of the client, as it sends it. */
export const out = ({ protocol, target, clientPort }: Connection): Fields => ({
  ...{ protocol, source: LOCAL, destination: target, sourcePort: clientPort, destinationPort: PORT, flags: ACK },
});
/** A packet of the server, as it sends it. */
export const back = ({ protocol, clientPort }: Connection): Fields => ({
  ...{ protocol, source: REMOTE, destination: LOCAL, sourcePort: PORT, destinationPort: clientPort, flags: ACK },
});

/** What leaves the wire and the other node when `node` sends. */
export function send(
  connection: Connection,
  node: 0 | 1,
  packet: Uint8Array,
  gsoBytes = 0,
): { frames: Datagram[]; written: Uint8Array[] } {
  const { fake, wire } = connection;
  wire.length = 0;
  const gso = gsoBytes === 0 ? Gso.None : Gso.Tcp4;
  const { written } = exchange(fake, () => fake.nodes[node]!.device.inject(packet, { gso, gsoBytes }));
  return { frames: [...wire], written: written[1 - node]!.map(({ bytes }) => completed(bytes)) };
}

/** A connection from LOCAL to REMOTE, established through the agents. */
export async function connect(protocol: "tcp" | "udp", target: string, clientPort = 40_000): Promise<Connection> {
  const connection: Connection = { fake: await cluster(), protocol, target, clientPort, wire: [] };
  const { fake, wire } = connection;
  fake.wire.filter = (datagram) => {
    wire.push(datagram);
    return [datagram];
  };
  // The VIP has a task on each node.
  while (send(connection, 0, ipPacket({ ...out(connection), flags: SYN, sequence: 999 })).written.length === 0)
    connection.clientPort++;
  send(connection, 1, ipPacket({ ...back(connection), flags: SYN | ACK, sequence: 4999, acknowledgment: 1000 }));
  send(connection, 0, ipPacket({ ...out(connection), sequence: 1000, acknowledgment: 5000 }));
  return connection;
}

/** The entries of both directions on the client's node. */
export function entriesOf({ protocol, target, clientPort }: Connection, sourcePort: number): [LaneEntry, LaneEntry] {
  const fields = {
    protocol: protocol === "tcp" ? 6 : 17,
    vip: target === REMOTE ? 0 : ipv4(target),
    hasOuterChecksum: true,
  };
  return [
    toPeer({
      ...{ ...fields, vni: WEB, sourcePort, destination: ipv4(target), ports: ports(clientPort, PORT) },
      ...{ newDestination: ipv4(REMOTE), newPorts: ports(clientPort, PORT) },
    }),
    fromPeer({
      ...fields,
      origin: WEB,
      ports: ports(PORT, clientPort),
      newSource: ipv4(target),
      newPorts: ports(PORT, clientPort),
    }),
  ];
}
