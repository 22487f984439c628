// Probes that are forged, or come from a peer that has begun anew: what a node believes of its peers.
import test from "ava";
import type { HealthReport } from "../../src/datapath/peer-health.ts";
import { ipv4 } from "../../src/lib/ip.ts";
import type { Datagram } from "../fakes/in-process.ts";
import { type FakeNode, fakeNodes, rowsFor } from "../fakes/nodes.ts";
import { A, B, CLUSTER, cluster } from "../fakes/two-nodes.ts";

/** Offset of BFD in a probe's datagram, behind VXLAN, Ethernet, IPv4 and UDP. */
const BFD_AT = 50;
const STATE_AT = BFD_AT + 1;
const YOURS_AT = BFD_AT + 8;
const ADMIN_DOWN = 0;
const DOWN = 1;
const UP = 3;
const FINAL = 0x10;

interface Fields {
  state?: number;
  flags?: number;
  multiplier?: number;
  mine?: number;
  yours?: number;
  desiredMinTx?: number;
  requiredMinRx?: number;
}

/** A forged probe from B to A. */
function forged(probe: Datagram, said: Fields): Datagram {
  const { state = DOWN, flags = 0, multiplier = 3, mine = 0x1234, yours = 0 } = said;
  const payload = probe.payload.slice();
  const view = new DataView(payload.buffer);
  payload[STATE_AT] = (state << 6) | flags;
  payload[BFD_AT + 2] = multiplier;
  view.setUint32(BFD_AT + 4, mine);
  view.setUint32(YOURS_AT, yours);
  view.setUint32(BFD_AT + 12, said.desiredMinTx ?? 300_000);
  view.setUint32(BFD_AT + 16, said.requiredMinRx ?? 300_000);
  return { ...probe, payload };
}

/** Two nodes that begin, and a probe that B sent to A. */
async function begun() {
  const fake = fakeNodes(2);
  let probe: Datagram | undefined;
  fake.wire.filter = (datagram) => {
    if (datagram.from === ipv4(B)) probe ??= { ...datagram, payload: datagram.payload.slice() };
    return [datagram];
  };
  for (const node of fake.nodes) node.apply(rowsFor(CLUSTER, node.vtep));
  await fake.advance(10);
  for (const { engine } of fake.nodes) engine.tick();
  const states = () => fake.nodes.map(({ engine }) => engine.report().probes[0]!.state);
  return { fake, probe: probe!, states };
}

/** Sends one of them every 100 ms; the states that the nodes were in meanwhile. */
async function under(attack: Fields[], ms: number, { fake, probe, states }: Awaited<ReturnType<typeof begun>>) {
  const seen = new Set<string>();
  for (let passed = 0; passed < ms; passed += 10) {
    if (passed % 100 === 0) fake.wire.carry(forged(probe, attack[(passed / 100) % attack.length]!));
    await fake.advance(10);
    seen.add(states().join(" "));
  }
  return [...seen];
}

const FORGERIES: [name: string, said: Fields[]][] = [
  ["Down", [{}]],
  ["administratively down", [{ state: ADMIN_DOWN }]],
  ["an answer to a poll", [{ flags: FINAL }]],
  [
    "a detection time of an hour and silence for an hour",
    [{ multiplier: 255, desiredMinTx: 2e9, requiredMinRx: 0xffffffff }],
  ],
  ["a discriminator that is guessed", [{ yours: 4711 }, { state: UP, yours: 4712 }]],
];

for (const [name, said] of FORGERIES) {
  test(`a forged probe that says ${name} takes no node out`, async (t) => {
    const begin = await begun();
    await begin.fake.advance(3000);
    t.deepEqual(begin.states(), ["up", "up"]);
    const { rttMs } = begin.fake.nodes[0]!.engine.report().probes[0]!;
    t.deepEqual(await under(said, 5000, begin), ["up up"]);
    t.is(begin.fake.nodes[0]!.engine.report().probes[0]!.rttMs, rttMs);
    begin.fake.wire.filter = () => [];
    await begin.fake.advance(1000);
    t.deepEqual(begin.states(), ["down", "down"], "silence is noticed as before");
  });

  test(`a forged probe that says ${name} does not keep a node out`, async (t) => {
    const begin = await begun();
    begin.fake.wire.filter = () => [];
    await under(said, 3000, begin);
    t.deepEqual(begin.states(), ["down", "down"]);
    begin.fake.wire.filter = undefined;
    await under(said, 2000, begin);
    t.deepEqual(await under(said, 3000, begin), ["up up"]);
  });
}

test("forged probes do not keep a session going that nobody answers", async (t) => {
  const begin = await begun();
  await begin.fake.advance(3000);
  const only = begin.probe;
  begin.fake.wire.filter = (datagram) => (datagram.fromPort === only.fromPort + 1 ? [datagram] : []);
  await under([{}], 1000, { ...begin, probe: { ...only, fromPort: only.fromPort + 1 } });
  t.not(begin.states()[0], "up");
});

test("a peer that has begun anew is up again within two seconds", async (t) => {
  const { fake, states } = await begun();
  await fake.advance(3000);
  fake.restart(1).apply(rowsFor(CLUSTER, B));
  await fake.advance(2000);
  t.deepEqual(states(), ["up", "up"]);
  fake.restart(0).apply(rowsFor(CLUSTER, A));
  await fake.advance(2000);
  t.deepEqual(states(), ["up", "up"]);
});

test("the health of peers is reported when it changes, and not at every tick", async (t) => {
  const fake = await cluster();
  const [node] = fake.nodes;
  const reports: HealthReport[] = [];
  node!.engine.onHealth = (report) => reports.push(report);
  await fake.advance(5000);
  t.deepEqual(reports, [], "nothing has changed");
  fake.wire.filter = () => [];
  await fake.advance(5000);
  t.deepEqual(reports, [{ unreachable: [ipv4(B)], mtus: [] }]);
  fake.wire.filter = undefined;
  await fake.advance(5000);
  t.deepEqual(reports.slice(1), [{ unreachable: [], mtus: [] }]);
});

test("a peer that comes is probed at once, and one that goes no more", async (t) => {
  const fake = await cluster();
  const [node] = fake.nodes;
  const without = rowsFor(CLUSTER, A).filter((row) => row.kind !== "peer");
  const sent: number[] = [];
  fake.wire.filter = (datagram) => {
    if (datagram.from === ipv4(A)) sent.push(datagram.to);
    return [datagram];
  };
  node!.apply(without);
  await fake.advance(2000);
  t.deepEqual(sent, []);
  node!.apply(rowsFor(CLUSTER, A));
  t.deepEqual(sent, [ipv4(B)]);
});

test("a path's MTU changes: the lane's entries with the one from before are void at once, and not with the next tick", async (t) => {
  const fake = await cluster({ lanes: true });
  const [{ engine, lane }] = fake.nodes as [FakeNode];
  const mtu = (): number => engine.report().probes[0]!.mtu;
  const losses: string[] = [];
  let before = mtu();
  const lose = lane!.lose.bind(lane);
  lane!.lose = (address) => {
    lose(address);
    if (address === ipv4(B) && mtu() !== before) losses.push(`${before} to ${mtu()}`);
    before = mtu();
  };
  const tick = engine.tick.bind(engine);
  const late: number[] = [];
  engine.tick = () => {
    if (mtu() !== before) late.push(mtu());
    return tick();
  };
  fake.wire.mtu = 1100;
  await fake.advance(60_000);
  t.true(losses.length > 0);
  t.deepEqual(late, []);
});
