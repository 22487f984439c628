// Flows whose end is gone: both sides are told with resets that they take.
import test from "ava";
import { ACK, type Described, FIN, RST, SYN } from "../fakes/ip-packets.ts";
import { type Cluster, type FakeNodes, fakeNodes, rowsFor } from "../fakes/nodes.ts";
import { A, B, brief, CLUSTER, cluster, exchange, send, WEB } from "../fakes/two-nodes.ts";

const CLIENT = "10.192.32.11";
const VIP = "10.192.32.2";
const TASK_A = "10.192.32.10";
const TASK_B = "10.192.32.20";

/** The cluster without some endpoints, and with other tasks behind the web VIP. */
function changed(change: { without?: string[]; tasks?: string[]; draining?: string[]; nodes?: string[] }): Cluster {
  const { without = [], tasks, draining = [], nodes = [A, B] } = change;
  const endpoints = Object.entries(CLUSTER.endpoints).filter(
    ([address, { vtep }]) => !without.includes(address) && nodes.includes(vtep),
  );
  return {
    ...CLUSTER,
    nodes: Object.fromEntries(Object.entries(CLUSTER.nodes).filter(([vtep]) => nodes.includes(vtep))),
    endpoints: Object.fromEntries(endpoints),
    vips: { ...CLUSTER.vips, [VIP]: { vni: WEB, tasks: tasks ?? [TASK_A, TASK_B], draining } },
  };
}

/** Puts a cluster in force on all nodes; what comes out of it. */
function apply(fake: FakeNodes, to: Cluster): Described[][] {
  return exchange(fake, () => {
    for (const node of fake.nodes) if (to.nodes[node.vtep] !== undefined) node.apply(rowsFor(to, node.vtep));
    for (const node of fake.nodes) for (let i = 0; i < 10; i++) node.engine.tick();
  }).out;
}

const resets = (packets: readonly Described[]): Described[] =>
  packets.filter(({ protocol, flags }) => protocol === 6 && (flags & RST) !== 0);

/** A connection of the client on the first node to the VIP that ends at the task on the second. */
async function connected(port = 5000): Promise<FakeNodes> {
  const fake = await cluster();
  send(fake, 0, { source: CLIENT, destination: VIP, sourcePort: 1, protocol: "udp" }); // round robin: the next is B's
  const client = { source: CLIENT, destination: VIP, sourcePort: port };
  const server = { source: TASK_B, destination: CLIENT, sourcePort: 80, destinationPort: port };
  send(fake, 0, { ...client, sequence: 1000 });
  send(fake, 1, { ...server, flags: SYN | ACK, sequence: 9000, acknowledgment: 1001 });
  send(fake, 0, { ...client, flags: ACK, sequence: 1001, acknowledgment: 9001, payload: new Uint8Array(100) });
  send(fake, 1, { ...server, flags: ACK, sequence: 9001, acknowledgment: 1101, payload: new Uint8Array(500) });
  return fake;
}

test("the task is gone: its client gets a reset from the VIP, in sequence", async (t) => {
  const fake = await connected();
  const out = apply(fake, changed({ without: [TASK_B], tasks: [TASK_A] }));
  const [reset] = resets(out[0]!);
  t.is(resets(out[0]!).length, 1);
  t.is(brief(reset!), `${VIP}:80 > ${CLIENT}:5000`);
  t.like(reset, { flags: RST | ACK, sequence: 9501, acknowledgment: 1101, headerChecksumIsRight: true });
  t.regex(reset!.transportChecksum, /right|partial/);
  t.deepEqual(resets(out[1]!), [], "there is nobody on the task's node");
  t.deepEqual(
    fake.nodes.map((node) => node.flows().filter(({ protocol }) => protocol === "tcp")),
    [[], []],
  );
});

test("the task is the service's no longer, but still there: it is reset too", async (t) => {
  const fake = await connected();
  // On its own node the flow is one between endpoints, which the tables still bear out: the VIP's node tells.
  const out = apply(fake, changed({ tasks: [TASK_A] }));
  t.deepEqual(resets(out[0]!).map(brief), [`${VIP}:80 > ${CLIENT}:5000`]);
  // What the client still sends meets no flow; what the task sends is answered by the client's own kernel.
  const late = send(fake, 0, {
    ...{ source: CLIENT, destination: VIP, sourcePort: 5000, flags: ACK },
    ...{ sequence: 1101, acknowledgment: 9501 },
  });
  t.is(late.out[0]!.length + late.out[1]!.length, 1, "picked up in mid-stream: a task that knows nothing resets it");
});

test("a draining task keeps its flows and gets no new ones", async (t) => {
  const fake = await connected();
  const out = apply(fake, changed({ tasks: [TASK_A], draining: [TASK_B] }));
  t.deepEqual(out.flatMap(resets), []);
  const more = { source: CLIENT, destination: VIP, sourcePort: 5000, flags: ACK, sequence: 1101, acknowledgment: 9501 };
  t.is(send(fake, 0, more).out[1]!.length, 1);
  for (let port = 6000; port < 6004; port++) {
    t.deepEqual(
      send(fake, 0, { source: CLIENT, destination: VIP, sourcePort: port }).out[0]!.map(
        ({ destination }) => destination,
      ),
      [TASK_A],
    );
  }
});

test("a draining task on a node that is away is given up", async (t) => {
  const fake = await connected();
  fake.wire.filter = () => [];
  await fake.advance(2000);
  const out = apply(fake, changed({ tasks: [TASK_A], draining: [TASK_B] }));
  t.deepEqual(resets(out[0]!).map(brief), [`${VIP}:80 > ${CLIENT}:5000`]);
});

test("the client is gone: the task gets a reset from it, in sequence", async (t) => {
  const fake = await connected();
  const out = apply(fake, changed({ without: [CLIENT] }));
  t.deepEqual(resets(out[0]!), []);
  const [reset] = resets(out[1]!);
  t.is(brief(reset!), `${CLIENT}:5000 > ${TASK_B}:80`);
  t.like(reset, { flags: RST | ACK, sequence: 1101, acknowledgment: 9501 });
});

test("the task's node is removed: its clients are told by their own", async (t) => {
  const fake = await connected();
  const out = apply(fake, changed({ nodes: [A], tasks: [TASK_A] }));
  t.deepEqual(resets(out[0]!).map(brief), [`${VIP}:80 > ${CLIENT}:5000`]);
});

test("a task that dies before it answers: the client's SYN is refused", async (t) => {
  const fake = await cluster();
  send(fake, 0, { source: CLIENT, destination: VIP, sourcePort: 1, protocol: "udp" });
  send(fake, 0, { source: CLIENT, destination: VIP, sourcePort: 5000, sequence: 1000 });
  const out = apply(fake, changed({ without: [TASK_B], tasks: [TASK_A] }));
  t.like(resets(out[0]!)[0], { flags: RST | ACK, acknowledgment: 1001 });
});

test("a connection that is closing is left to close", async (t) => {
  const fake = await connected();
  const client = { source: CLIENT, destination: VIP, sourcePort: 5000 };
  const server = { source: TASK_B, destination: CLIENT, sourcePort: 80, destinationPort: 5000 };
  send(fake, 0, { ...client, flags: FIN | ACK, sequence: 1101, acknowledgment: 9501 });
  send(fake, 1, { ...server, flags: FIN | ACK, sequence: 9501, acknowledgment: 1102 });
  const out = apply(fake, changed({ without: [TASK_B], tasks: [TASK_A] }));
  t.deepEqual(out.flatMap(resets), []);
});

test("datagrams of a flow whose task is gone go to another one", async (t) => {
  const fake = await cluster();
  const datagram = { source: CLIENT, destination: VIP, protocol: "udp" as const };
  send(fake, 0, { ...datagram, sourcePort: 1 });
  t.is(send(fake, 0, { ...datagram, sourcePort: 2 }).out[1]!.length, 1);
  apply(fake, changed({ without: [TASK_B], tasks: [TASK_A] }));
  t.deepEqual(
    send(fake, 0, { ...datagram, sourcePort: 2 }).out[0]!.map(({ destination }) => destination),
    [TASK_A],
  );
});

test("a connection that was idle for five days ends with resets to both", async (t) => {
  const fake = await connected();
  await fake.clock.advance(6 * 86_400_000);
  const { out } = exchange(fake, () => {
    for (const node of fake.nodes) node.engine.tick();
  });
  t.deepEqual(resets(out[0]!).map(brief), [`${VIP}:80 > ${CLIENT}:5000`]);
  t.deepEqual(resets(out[1]!).map(brief), [`${CLIENT}:5000 > ${TASK_B}:80`]);
});

test("100,000 flows are looked at in slices, with packets between them", async (t) => {
  const flowCapacity = 131_072;
  const fake = fakeNodes(1, { flowCapacity });
  const [node] = fake.nodes;
  node!.apply(rowsFor(CLUSTER, A));
  const udp = { source: CLIENT, destination: TASK_A, protocol: "udp" as const };
  for (let i = 0; i < 100_000; i++) {
    send(fake, 0, { ...udp, sourcePort: i & 0xffff, destinationPort: 1 + (i >>> 16) });
  }
  t.is(node!.engine.report().flows, 100_000);
  node!.apply(rowsFor(changed({ without: [TASK_A], tasks: [] }), A));
  let slices = 0;
  let slowestMs = 0;
  while (node!.engine.report().flows > 0) {
    const began = performance.now();
    const nextMs = node!.engine.tick();
    slowestMs = Math.max(slowestMs, performance.now() - began);
    slices++;
    if (node!.engine.report().flows > 0) t.is(nextMs, 1);
  }
  t.true(slices > 10 && slices < 600, `${slices} slices`);
  t.log(`${slices} slices, the slowest ${slowestMs.toFixed(2)} ms`);
});

test("after a restart, tables that may lack what was made last end no flow; whole ones do", async (t) => {
  const fake = await connected();
  const restarted = fake.restart(0);
  const without = rowsFor(changed({ without: [TASK_B], tasks: [TASK_A] }), A);
  restarted.apply(without.map((row) => (row.kind === "node" ? { ...row, isProvisional: true } : row)));
  for (let i = 0; i < 10; i++) restarted.engine.tick();
  const open = () => restarted.flows().filter(({ protocol }) => protocol === "tcp").length;
  t.is(open(), 1);
  restarted.apply(without);
  for (let i = 0; i < 10; i++) restarted.engine.tick();
  t.is(open(), 0);
});

test("before the first tables come after a restart, no flow is given up", async (t) => {
  const fake = await connected();
  const restarted = fake.restart(0);
  restarted.engine.tick();
  t.is(restarted.flows().filter(({ protocol }) => protocol === "tcp").length, 1);
  const more = { source: CLIENT, destination: VIP, sourcePort: 5000, flags: ACK, sequence: 1101, acknowledgment: 9501 };
  send(fake, 0, more);
  restarted.apply(rowsFor(CLUSTER, A));
  restarted.engine.tick();
  t.is(send(fake, 0, more).out[1]!.length, 1, "and it goes on");
});
