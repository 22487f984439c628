// Probes of nodes that have keys: they go sealed, measure the sealed path, and clear ones are believed no more.
import test from "ava";
import { sealedMtu } from "../../src/datapath/sealed-way.ts";
import { ipv4 } from "../../src/lib/ip.ts";
import type { Datagram } from "../fakes/in-process.ts";
import { SEALED_PORT } from "../fakes/nodes.ts";
import { agree, isSealedDatagram, SEALED_CLUSTER, sealedCluster, tap } from "../fakes/sealed-nodes.ts";
import { B, cluster } from "../fakes/two-nodes.ts";

const STATE_AT = 51;
const YOURS_AT = 58;

test("probes go sealed once there are keys, also where no network asks for it, and the session stays up", async (t) => {
  const fake = await cluster({ sealed: true }, { ...SEALED_CLUSTER, networks: SEALED_CLUSTER.networks });
  const states = () => fake.nodes.map(({ engine }) => engine.report().probes[0]!.state);
  t.deepEqual(states(), ["up", "up"]);
  agree(fake.nodes[0]!, fake.nodes[1]!);
  const seen = tap(fake);
  for (let i = 0; i < 50; i++) {
    await fake.advance(100);
    t.deepEqual(states(), ["up", "up"]);
  }
  const clear = seen.filter((datagram) => !isSealedDatagram(datagram));
  t.true(seen.length > 20 && clear.length <= 12, `${clear.length} of ${seen.length} are clear: one a second from each`);
});

for (const [way, port] of [
  ["clear", 4789],
  ["sealed", SEALED_PORT],
] as const) {
  test(`a peer to which ${way} packets do not pass is down at both ends, and up when they pass again`, async (t) => {
    const fake = await sealedCluster();
    const views = () => fake.nodes.map(({ engine }) => engine.report().probes[0]!);
    fake.wire.filter = (datagram) => (datagram.to === ipv4(B) && datagram.toPort === port ? [] : [datagram]);
    await fake.advance(6000);
    for (const { state } of views()) t.not(state, "up");
    if (way === "clear")
      t.deepEqual(
        views().map(({ clearLost }) => clearLost),
        ["there", "here"],
      );
    fake.wire.filter = undefined;
    await fake.advance(6000);
    t.deepEqual(
      views().map(({ state, clearLost }) => [state, clearLost]),
      [
        ["up", null],
        ["up", null],
      ],
    );
  });
}

test("a forged clear probe changes nothing at a node that has the peer's keys, whatever it says", async (t) => {
  const fake = await cluster({ sealed: true }, SEALED_CLUSTER);
  let probe: Datagram | undefined;
  fake.wire.filter = (datagram) => {
    if (datagram.from === ipv4(B)) probe = { ...datagram, payload: datagram.payload.slice() };
    return [datagram];
  };
  await fake.advance(1000);
  fake.wire.filter = undefined;
  const forged = probe!;
  agree(fake.nodes[0]!, fake.nodes[1]!);
  await fake.advance(500);
  for (const [state, yours] of [
    [1, 0],
    [0, new DataView(forged.payload.buffer).getUint32(YOURS_AT)],
  ] as const) {
    const payload = forged.payload.slice();
    payload[STATE_AT] = state << 6;
    new DataView(payload.buffer).setUint32(YOURS_AT, yours);
    const before = fake.nodes[0]!.drops()["clear-packet"] ?? 0;
    for (let i = 0; i < 30; i++) {
      fake.wire.carry({ ...forged, payload });
      await fake.advance(100);
      t.is(fake.nodes[0]!.engine.report().probes[0]!.state, "up");
    }
    // One that names the session says that clear packets pass, and is not believed in anything else.
    t.is((fake.nodes[0]!.drops()["clear-packet"] ?? 0) - before, yours === 0 ? 30 : 0);
  }
});

test("when a peer begins anew without keys, its probes are clear until both have agreed again", async (t) => {
  const fake = await sealedCluster();
  fake.nodes[0]!.engine.forgetAssociations([], [ipv4(B)]);
  await fake.advance(3000);
  t.is(fake.nodes[1]!.engine.report().probes[0]!.state, "down", "its keys say that the probes are forged");
  agree(fake.nodes[0]!, fake.nodes[1]!);
  await fake.advance(2000);
  t.is(fake.nodes[1]!.engine.report().probes[0]!.state, "up");
});

for (const [link, found] of [
  [1500, 1450],
  [1499, 1446],
  [1400, 1350],
  [1401, 1350],
  [1403, 1350],
  [1404, 1354],
  [1280, 1230],
] as const) {
  test(`over a path of ${link} bytes sealed probes find that clear packets of ${found} bytes pass`, async (t) => {
    const fake = await sealedCluster();
    fake.wire.mtu = link;
    await fake.advance(30_000);
    const { mtu } = fake.nodes[0]!.engine.report().probes[0]!;
    t.is(mtu, found);
    t.true(mtu + 50 <= link);
    t.true(((sealedMtu(mtu) + 32 + 3) & ~3) + 60 <= link);
  });
}
