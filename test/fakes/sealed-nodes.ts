// Keys for fake nodes, as two agents agree on them, and what a man in the middle sees of sealed packets.
import { SOURCE_PORTS } from "../../src/datapath/ports.ts";
import { ipv4 } from "../../src/lib/ip.ts";
import type { Datagram } from "./in-process.ts";
import { type FakeNode, type FakeNodes, SEALED_PORT } from "./nodes.ts";
import { CLUSTER, cluster } from "./two-nodes.ts";

export const SEALED_CLUSTER = {
  ...CLUSTER,
  networks: { 4096: { subnet: "10.192.32.0/20", sealed: true as const }, 4097: CLUSTER.networks[4097]! },
};

let nextSpi = 0x8000_0100; // above 2^31: such a number is no small integer

type Sealing = Pick<FakeNode, "vtep" | "engine">;

/** The SPIs of what one node offered another. */
type Offer = number[];

/** What `to` is to open with, of all sockets of `from`: nothing is sealed with it yet. */
function offer(from: Sealing, to: Sealing, keyOf: (spi: number) => Uint8Array): Offer {
  const spis = Array.from({ length: SOURCE_PORTS }, () => nextSpi++);
  to.engine.putAssociations(
    spis.map((spi) => ({ spi, vtep: ipv4(from.vtep), key: keyOf(spi) })),
    [],
  );
  return spis;
}

function take(from: Sealing, to: Sealing, spis: Offer, keyOf: (spi: number) => Uint8Array): void {
  from.engine.putAssociations(
    [],
    spis.map((spi, socket) => ({ spi, vtep: ipv4(to.vtep), socket, key: keyOf(spi) })),
  );
}

/** Keys for both directions, made before the old ones break. Returns the SPIs that each has offered. */
export function agree(a: Sealing, b: Sealing, keyOf = keyOfSpi): [byA: Offer, byB: Offer] {
  const byA = offer(b, a, keyOf);
  const byB = offer(a, b, keyOf);
  take(b, a, byA, keyOf);
  take(a, b, byB, keyOf);
  return [byA, byB];
}

/** Each key is another, as an exporter's would be. */
export function keyOfSpi(spi: number): Uint8Array {
  const key = new Uint8Array(36).map((_, i) => i * 7);
  new DataView(key.buffer).setUint32(0, spi);
  return key;
}

/** Two nodes with keys, the first network sealed, whose probes have found each other. */
export async function sealedCluster(options: Parameters<typeof cluster>[0] = {}): Promise<FakeNodes> {
  const fake = await cluster({ sealed: true, ...options }, SEALED_CLUSTER);
  agree(fake.nodes[0]!, fake.nodes[1]!);
  await fake.advance(2000);
  return fake;
}

export const isSealedDatagram = ({ toPort }: Datagram): boolean => toPort === SEALED_PORT;

/** Keeps each datagram that goes by from now on. */
export function tap(fake: FakeNodes): Datagram[] {
  const seen: Datagram[] = [];
  const { filter } = fake.wire;
  fake.wire.filter = (datagram) => {
    seen.push({ ...datagram, payload: datagram.payload.slice() });
    return filter === undefined ? [datagram] : filter(datagram);
  };
  return seen;
}

/** Whether the bytes are in any of the datagrams. */
export function isOnWire(seen: readonly Datagram[], bytes: Uint8Array): boolean {
  return seen.some(({ payload }) => Buffer.from(payload).includes(Buffer.from(bytes)));
}
