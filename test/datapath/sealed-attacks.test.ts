// A man in the middle between two nodes with keys: what is forged, changed, cut, repeated, late or lost, and keys that change meanwhile.
import test from "ava";
import fc from "fast-check";
import { WINDOW } from "../../src/datapath/replay-window.ts";
import { ipv4 } from "../../src/lib/ip.ts";
import { Gso } from "../../src/packet/virtio-net.ts";
import type { Datagram } from "../fakes/in-process.ts";
import { ACK, ipPacket, SYN } from "../fakes/ip-packets.ts";
import { type FakeNodes, rowsFor } from "../fakes/nodes.ts";
import { agree, isSealedDatagram, keyOfSpi, SEALED_CLUSTER, sealedCluster, tap } from "../fakes/sealed-nodes.ts";
import { seededRandom } from "../fakes/seeded-random.ts";
import { taken } from "../fakes/trains.ts";
import { A, B, cluster, exchange, send } from "../fakes/two-nodes.ts";

const WAY = { source: "10.192.32.10", destination: "10.192.32.20" };

/** A sealed datagram of the first node for the second, which has not seen it. */
async function caught(options: Parameters<typeof sealedCluster>[0] = {}, count = 1) {
  const fake = await sealedCluster(options);
  const seen: Datagram[] = [];
  fake.wire.filter = (datagram) => {
    seen.push({ ...datagram, payload: datagram.payload.slice() });
    return [];
  };
  for (let i = 0; i < count; i++) send(fake, 0, { ...WAY, protocol: "udp", payload: Uint8Array.of(i >> 8, i) });
  fake.wire.filter = undefined;
  return { fake, seen };
}

const carried = (fake: FakeNodes, ...datagrams: Datagram[]) =>
  exchange(fake, () => {
    for (const datagram of datagrams) fake.wire.carry(datagram);
  });

test("a bit flipped at any place of a packet is refused, and the packet itself is taken afterwards", async (t) => {
  const { fake, seen } = await caught();
  const [packet] = seen as [Datagram];
  let refused = 0;
  for (let bit = 0; bit < 8 * packet.payload.length; bit++) {
    const payload = packet.payload.slice();
    payload[bit >> 3]! ^= 1 << (bit & 7);
    const { drops, packets } = carried(fake, { ...packet, payload });
    t.deepEqual(packets[1], [], `bit ${bit}`);
    // Another SPI may be one that there is, and another number one that was taken.
    const reason = bit < 32 ? /^(unknown-spi|bad-seal|replayed)$/ : bit < 64 ? /^(bad-seal|replayed)$/ : /^bad-seal$/;
    t.regex(Object.keys(drops[1]!).join(), reason, `bit ${bit}`);
    refused++;
  }
  t.is(refused, 8 * packet.payload.length);
  t.is(carried(fake, packet).packets[1]!.length, 1);
});

test("a packet that is cut anywhere is refused", async (t) => {
  const { fake, seen } = await caught();
  const [packet] = seen as [Datagram];
  for (let bytes = 0; bytes < packet.payload.length; bytes++) {
    const { drops, packets } = carried(fake, { ...packet, payload: packet.payload.slice(0, bytes) });
    t.deepEqual(packets[1], []);
    t.deepEqual(drops[1], { [bytes === 0 ? "too-short" : "bad-seal"]: 1 }, `${bytes} bytes`);
  }
});

test("a packet that comes again is refused, one that is late by less than the window is taken, an older one refused", async (t) => {
  const { fake, seen } = await caught({}, WINDOW + 2);
  const [oldest, old] = seen as [Datagram, Datagram];
  const newest = seen.at(-1)!;
  t.is(carried(fake, newest).packets[1]!.length, 1);
  t.deepEqual(carried(fake, newest).drops[1], { replayed: 1 });
  t.deepEqual(carried(fake, oldest).drops[1], { replayed: 1 });
  t.deepEqual(carried(fake, old).drops[1], { replayed: 1 });
  t.is(carried(fake, seen[2]!).packets[1]!.length, 1, "the oldest of the window");
  t.deepEqual(carried(fake, seen[2]!).drops[1], { replayed: 1 });
  const { sealed } = fake.nodes[1]!.engine.report();
  t.is(sealed[0]!.replayed, 4);
});

test("packets in any order within the window arrive, each once", async (t) => {
  const { fake, seen } = await caught({}, 200);
  const random = seededRandom(11);
  const shuffled = seen
    .map((datagram) => ({ datagram, key: random() }))
    .sort((a, b) => a.key - b.key)
    .map(({ datagram }) => datagram);
  const { packets, drops } = carried(fake, ...shuffled, ...shuffled);
  t.is(packets[1]!.length, 200);
  t.deepEqual(drops[1], { replayed: 200 });
});

test("a packet by an SPI that there is not is refused, and what is forgotten is as one that never was", async (t) => {
  const { fake, seen } = await caught({}, 2);
  const [first, second] = seen as [Datagram, Datagram];
  const spi = new DataView(first.payload.buffer).getUint32(0);
  t.is(carried(fake, first).packets[1]!.length, 1);
  fake.nodes[1]!.engine.forgetAssociations([spi], []);
  t.deepEqual(carried(fake, second).drops[1], { "unknown-spi": 1 });
});

test("a sealed packet counts as one of the peer that has the key, whatever its outer address says", async (t) => {
  const { fake, seen } = await caught();
  const { packets } = carried(fake, { ...seen[0]!, from: ipv4("198.51.100.66") });
  t.is(packets[1]!.length, 1);
});

test("a changed datagram in the middle of a train is dropped alone", async (t) => {
  const fake = await sealedCluster({ join: true });
  let datagrams = 0;
  fake.wire.filter = (datagram) => {
    if (!isSealedDatagram(datagram) || datagram.payload.length < 1000 || ++datagrams !== 7) return [datagram];
    const payload = datagram.payload.slice();
    payload[500]! ^= 1;
    return [{ ...datagram, payload }];
  };
  const payload = new Uint8Array(13_680).map((_, i) => i >> 3);
  const { written, drops } = exchange(fake, () =>
    fake.nodes[0]!.device.inject(ipPacket({ ...WAY, flags: ACK, payload, partial: true }), {
      gso: Gso.Tcp4,
      gsoBytes: 1368,
    }),
  );
  t.deepEqual(drops, [{}, { "bad-seal": 1 }]);
  t.is(taken(written[1]!).length, 9);
});

test("keys change under packets in both directions: with make before break none is lost, and no key is used after its time", async (t) => {
  const fake = await sealedCluster({ join: true });
  const seen = tap(fake);
  const [a, b] = fake.nodes as [FakeNodes["nodes"][0], FakeNodes["nodes"][0]];
  let carriedPackets = 0;
  let old: number[] = [];
  let offered: number[] = [];
  for (let round = 0; round < 40; round++) {
    const { packets, drops } = exchange(fake, () => {
      for (let i = 0; i < 20; i++) {
        if (i === 7 && round % 2 === 0) {
          for (const { engine } of fake.nodes) engine.forgetAssociations(old, []);
          old = offered;
          offered = agree(a, b).flat();
        }
        const sourcePort = 3000 + round * 20 + i;
        a.device.inject(ipPacket({ ...WAY, protocol: "udp", sourcePort }));
        b.device.inject(ipPacket({ source: WAY.destination, destination: WAY.source, protocol: "udp", sourcePort }));
        if (i % 3 === 0) a.engine.step(0xffff);
        if (i % 5 === 0) b.engine.step(0xffff);
      }
    });
    t.deepEqual(drops, [{}, {}]);
    carriedPackets += packets[0]!.length + packets[1]!.length;
  }
  t.is(carriedPackets, 40 * 40);
  t.true(new Set(seen.map(({ payload }) => new DataView(payload.buffer).getUint32(0))).size > 40);
});

test("a lossy wire loses what it loses, and nothing else", async (t) => {
  const fake = await sealedCluster();
  const random = seededRandom(5);
  let lost = 0;
  fake.wire.filter = (datagram) => {
    if (random() > 0.3) return [datagram];
    lost++;
    return [];
  };
  let arrived = 0;
  for (let i = 0; i < 500; i++) arrived += send(fake, 0, { ...WAY, protocol: "udp" }).packets[1]!.length;
  t.is(arrived, 500 - lost);
  t.true(lost > 50);
});

/** What befalls two nodes. */
const STEPS = fc.array(
  fc.oneof(
    fc.record({ kind: fc.constant("send" as const), from: fc.nat(1), port: fc.nat(63) }),
    fc.record({ kind: fc.constant("agree" as const) }),
    fc.record({ kind: fc.constant("restart" as const), node: fc.nat(1) }),
    fc.record({ kind: fc.constant("big" as const), from: fc.nat(1) }),
    fc.record({ kind: fc.constant("forget" as const), node: fc.nat(1) }),
  ),
  { minLength: 10, maxLength: 60 },
);

test("no key is used with one IV twice, whatever is sent, agreed, restarted and forgotten", async (t) => {
  await fc.assert(
    fc.asyncProperty(STEPS, async (steps) => {
      const fake = await cluster({ sealed: true }, SEALED_CLUSTER);
      const used = new Set<string>();
      fake.wire.filter = (datagram) => {
        if (!isSealedDatagram(datagram)) return [datagram];
        const view = new DataView(datagram.payload.buffer, datagram.payload.byteOffset);
        const nonce = Buffer.from(keyOfSpi(view.getUint32(0))).toString("hex") + view.getBigUint64(8);
        if (used.has(nonce)) throw new Error(`twice: ${nonce}`);
        used.add(nonce);
        return [datagram];
      };
      const inject = (from: number, sourcePort: number, payload: Uint8Array, carry = {}) => {
        const [source, destination] = from === 0 ? [WAY.source, WAY.destination] : [WAY.destination, WAY.source];
        const partial = payload.length > 1000;
        fake.nodes[from]!.device.inject(
          ipPacket({ source, destination, sourcePort, flags: SYN, payload, partial }),
          carry,
        );
      };
      const restart = (node: number): void => {
        const again = fake.restart(node);
        again.apply(rowsFor(SEALED_CLUSTER, again.vtep));
      };
      for (const step of steps) {
        if (step.kind === "send") inject(step.from, 2000 + step.port, new Uint8Array(10));
        else if (step.kind === "big") inject(step.from, 1999, new Uint8Array(9000), { gso: Gso.Tcp4, gsoBytes: 1368 });
        else if (step.kind === "agree") agree(fake.nodes[0]!, fake.nodes[1]!);
        else if (step.kind === "forget")
          fake.nodes[step.node]!.engine.forgetAssociations([], [ipv4(step.node === 0 ? B : A)]);
        else restart(step.node);
        await fake.advance(10);
      }
    }),
    { numRuns: 20 },
  );
  t.pass();
});
