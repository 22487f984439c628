// Two nodes, two networks and some services, for rows of packets.
import type { DevicePacket } from "./in-process.ts";
import { type Described, describe, type Fields, ipPacket } from "./ip-packets.ts";
import { type Cluster, type FakeNodes, type FakeNodesOptions, fakeNodes, rowsFor } from "./nodes.ts";

export const A = "192.0.2.11";
export const B = "192.0.2.12";
export const WEB = 4096;
export const DB = 4097;
export const CLUSTER: Cluster = {
  nodes: { [A]: "10.192.0.2", [B]: "10.192.0.3" },
  networks: { [WEB]: { subnet: "10.192.32.0/20" }, [DB]: { subnet: "10.192.48.0/20", internal: true } },
  endpoints: {
    "10.192.32.10": { vtep: A, vni: WEB },
    "10.192.32.11": { vtep: A, vni: WEB },
    "10.192.32.20": { vtep: B, vni: WEB },
    "10.192.48.10": { vtep: A, vni: DB },
    "10.192.48.20": { vtep: B, vni: DB },
  },
  vips: {
    "10.192.32.2": { vni: WEB, tasks: ["10.192.32.10", "10.192.32.20"] },
    "10.192.32.3": { vni: WEB, tasks: [] },
    "10.192.0.100": { vni: 2, tasks: ["10.192.32.20"], ports: [[9200, 80]] },
    "10.192.0.101": { vni: 2, tasks: ["10.192.32.10"], ports: [[9201, 80]] },
    "10.192.0.102": { vni: 2, tasks: [], ports: [[9202, 80]] },
  },
};

export async function cluster(options: FakeNodesOptions = {}, rows = CLUSTER): Promise<FakeNodes> {
  const fake = fakeNodes(Object.keys(rows.nodes).length, options);
  for (const node of fake.nodes) node.apply(rowsFor(rows, node.vtep));
  await fake.advance(3000);
  return fake;
}

export interface Exchange {
  /** What came out at each node. */
  out: Described[][];
  /** The same, as bytes. */
  packets: Uint8Array[][];
  /** The same, with what they carry beside. */
  written: DevicePacket[][];
  /** The drops that it caused at each node. */
  drops: Record<string, number>[];
}

/** Sends from node `from`. */
export function send(fake: FakeNodes, from: number, fields: Fields): Exchange {
  return exchange(fake, () => fake.nodes[from]!.device.inject(ipPacket(fields)));
}

/** What comes out, and what is dropped, when something happens. */
export function exchange(fake: FakeNodes, happens: () => void): Exchange {
  const before = fake.nodes.map((node) => node.drops());
  happens();
  fake.settle();
  const written = fake.nodes.map((node) => node.written());
  const packets = written.map((carried) => carried.map(({ bytes }) => bytes));
  const drops = fake.nodes.map((node, i) =>
    Object.fromEntries(
      Object.entries(node.drops())
        .map(([reason, count]) => [reason, count - (before[i]![reason] ?? 0)] as const)
        .filter(([, count]) => count > 0),
    ),
  );
  return { out: packets.map((carried) => carried.map(describe)), packets, written, drops };
}

/** "FROM:PORT > TO:PORT" */
export function brief({ source, sourcePort, destination, destinationPort }: Described): string {
  return `${source}:${sourcePort} > ${destination}:${destinationPort}`;
}
