// Which changes of the rows take ground from flows. The law: after any changes exactly those flows are left that tables which are
// made whole would bear out, and a change that only adds rows looks at no flow.
import test from "ava";
import fc from "fast-check";
import { FlowCheck } from "../../src/datapath/flow-check.ts";
import { FlowState } from "../../src/datapath/flow-entries.ts";
import { FlowScan } from "../../src/datapath/flow-scan.ts";
import { FlowTable } from "../../src/datapath/flow-table.ts";
import type { PeerHealth } from "../../src/datapath/peer-health.ts";
import type { Resets } from "../../src/datapath/resets.ts";
import {
  DEVICE,
  type NodeRow,
  type PeerRow,
  type Port,
  type TableRow,
  type TableRows,
  type VipRow,
  wholeOf,
} from "../../src/datapath/rows.ts";
import { Tables } from "../../src/datapath/tables.ts";
import { type Ipv4, ipv4, maskOf } from "../../src/lib/ip.ts";
import { diffTables } from "../fakes/diff-tables.ts";
import { liveEntries, reserve } from "../fakes/flows.ts";
import { ACK, SYN } from "../fakes/ip-packets.ts";
import { rowsFor } from "../fakes/nodes.ts";
import { rowsOf } from "../fakes/rows-of.ts";
import { A, B, CLUSTER, cluster, send, WEB } from "../fakes/two-nodes.ts";

const CLIENT = "10.192.32.11";
const LOCAL = "10.192.32.10";
const REMOTE = "10.192.32.20";
const NEW = "10.192.32.30";
const VIP = "10.192.32.2";
const GATEWAY = "10.192.32.1";
const C = "192.0.2.13";

type Change = (rows: TableRow[]) => TableRow[];

const add =
  (...more: TableRow[]): Change =>
  (rows) => [...rows, ...more];
const remove =
  (kind: TableRow["kind"], address: string): Change =>
  (rows) =>
    rows.filter((row) => !(row.kind === kind && addressOf(row) === ipv4(address)));
const alter =
  <K extends TableRow["kind"]>(kind: K, address: string, fields: Partial<Extract<TableRow, { kind: K }>>): Change =>
  (rows) =>
    rows.map((row) =>
      row.kind === kind && addressOf(row) === ipv4(address) ? ({ ...row, ...fields } as TableRow) : row,
    );

function addressOf(row: TableRow): Ipv4 {
  if (row.kind === "network") return row.gateway;
  return row.kind === "node" || row.kind === "peer" ? row.vtep : row.ip;
}

const balancing = { scheduler: "rr", weights: [1], affinitySeconds: 0, preferLocal: false } as const;
const newVip: VipRow = {
  ...{ kind: "vip", ip: ipv4("10.192.32.9"), vni: WEB, service: "new", tasks: [ipv4(NEW)], draining: [] },
  ...{ balancing, ports: null, hostMode: false },
};
const newPeer: PeerRow = { kind: "peer", vtep: ipv4(C), port: 4789, ingress: 0, agent: true, lane: true, mesh: true };
const tasks = [LOCAL, REMOTE].map(ipv4);

/** Changes on node A, where flows go from CLIENT by the VIP to LOCAL and REMOTE: whether the epoch moves, and how many are looked at. */
const CHANGES: [title: string, change: Change, moves: boolean, checked: number][] = [
  ["a new endpoint", add({ kind: "endpoint", ip: ipv4(NEW), vni: WEB, vtep: 0 }), false, 0],
  ["a new service", add(newVip), false, 0],
  ["a new node", add(newPeer), false, 0],
  ["a new network", add({ ...network(9), vni: 5000 }), false, 0],
  ["a service that is scaled up", alter("vip", VIP, { tasks: [...tasks, ipv4(NEW)] }), false, 0],
  ["other weights", alter("vip", VIP, { balancing: { ...balancing, weights: [1, 5] } }), false, 0],
  ["a task that drained and is back", alter("vip", VIP, { draining: [] }), false, 0],
  ["a port that is published", alter("endpoint", REMOTE, { published: [{ protocol: 6, port: 80 }] }), false, 0],
  [
    "ports that processes of nodes hold",
    alter("node", A, { heldPorts: [{ protocol: 6, port: 80, address: 0 }] }),
    false,
    0,
  ],
  ["a port that is no longer denied", alter("denied", B, { ports: [] }), false, 0],
  ["an endpoint without flows that goes", remove("endpoint", "10.192.48.20"), true, 0],
  ["the other task that is given up", alter("vip", VIP, { tasks: [ipv4(REMOTE)] }), true, 1],
  ["the remote task that is given up", alter("vip", VIP, { tasks: [ipv4(LOCAL)] }), true, 1],
  ["the remote task that drains", alter("vip", VIP, { tasks: [ipv4(LOCAL)], draining: [ipv4(REMOTE)] }), true, 1],
  ["the service that goes", remove("vip", VIP), true, 2],
  ["another service that goes", remove("vip", "10.192.32.3"), true, 0],
  ["the client that goes", remove("endpoint", CLIENT), true, 2],
  ["the remote task that moves", alter("endpoint", REMOTE, { vtep: ipv4(C) }), true, 1],
  ["the remote task's node that goes", remove("peer", B), true, 1],
  ["the remote task's node with another ingress address", alter("peer", B, { ingress: ipv4("10.192.0.77") }), true, 1],
  ["the remote task's node that takes no lane frames any more", alter("peer", B, { lane: false }), true, 1],
  ["a network that goes", remove("network", "10.192.48.1"), true, 0],
  [
    "the remote task's port that is denied",
    add({ kind: "denied", ip: ipv4(REMOTE), ports: [{ protocol: 6, port: 80 }] }),
    true,
    1,
  ],
  ["another port that is denied", alter("denied", GATEWAY, { ports: [{ protocol: 6, port: 99 }] }), true, 0],
  ["another ingress address of this node", alter("node", A, { ingress: ipv4("10.192.0.88") }), true, 2],
];
for (const [title, change, moves, checked] of CHANGES) {
  test(`${title}: flows ${moves ? "may" : "cannot"} lose ground, and ${checked} of them are looked at`, async (t) => {
    const fake = await cluster();
    const [node] = fake.nodes;
    send(fake, 0, { source: CLIENT, destination: VIP, sourcePort: 5001, flags: SYN });
    send(fake, 0, { source: CLIENT, destination: VIP, sourcePort: 5002, flags: SYN });
    const toRemote = node!.flows().filter(({ server }) => server.startsWith(REMOTE));
    t.is(toRemote.length, 1, "one flow goes to each task");
    const before = node!.engine.tables.epoch;
    const { checkedFlows } = node!.engine.report();
    node!.apply(change(rowsFor(CLUSTER, A)));
    await fake.advance(1000);
    t.is(node!.engine.tables.epoch !== before, moves);
    t.is(node!.engine.report().checkedFlows - checkedFlows, checked);
    if (checked > 0) return;
    const sourcePort = Number(toRemote[0]!.client.split(":")[1]);
    send(fake, 0, { source: CLIENT, destination: VIP, sourcePort, flags: ACK });
    t.is(node!.engine.report().checkedFlows, checkedFlows, "and its next packet is no reason to look at it");
  });
}

test("the first rows are held against every flow that an agent before has left", async (t) => {
  const fake = await cluster();
  send(fake, 0, { source: CLIENT, destination: REMOTE, flags: SYN });
  const node = fake.restart(0);
  node.apply(rowsFor(CLUSTER, A).filter((row) => row.kind !== "endpoint"));
  await fake.advance(1000);
  t.is(node.flows().length, 0);
});

test("a whole set of rows begins an epoch in every worker, whatever each had", (t) => {
  const [one, other] = [new Tables(), new Tables()];
  one.apply(diffTables(new Map(), rowsOf(rowsFor(CLUSTER, A))));
  other.apply(diffTables(new Map(), rowsOf(rowsFor(CLUSTER, B))));
  for (const tables of [one, other]) tables.apply(wholeOf(rowsOf(rowsFor(CLUSTER, A))));
  t.is(one.epoch, other.epoch);
  t.is(one.epoch, 3);
});

test("more losses than are remembered one by one: every flow is looked at, and none is forgotten", (t) => {
  const many = Array.from(
    { length: 5000 },
    (_, i): TableRow => ({ kind: "endpoint", ip: ipv4("10.193.0.0") + i, vni: WEB, vtep: 0 }),
  );
  const bed = new Bed();
  bed.apply([...rowsFor(CLUSTER, A), ...many]);
  const gone = bed.addFlow({
    client: ipv4("10.193.0.7"),
    from: 0,
    server: ipv4(REMOTE),
    to: ipv4(B),
    vip: 0,
    zone: 0,
    port: 80,
  });
  const kept = bed.addFlow({
    client: ipv4(CLIENT),
    from: 0,
    server: ipv4(REMOTE),
    to: ipv4(B),
    vip: 0,
    zone: 0,
    port: 80,
  });
  bed.apply(rowsFor(CLUSTER, A));
  t.deepEqual(liveEntries(bed.flows), [kept]);
  t.not(gone, kept);
});

test("flows that lost ground end though new ones come while the table is looked through", (t) => {
  const bed = new Bed(20_000);
  bed.apply(rowsFor(CLUSTER, A));
  const flow = { client: ipv4(CLIENT), from: 0, server: ipv4(REMOTE), to: ipv4(B), vip: 0, zone: 0, port: 80 };
  for (let i = 0; i < 12_000; i++) bed.addFlow(flow);
  for (let i = 0; i < 10; i++) bed.scan.step(0, false); // it stands in the middle
  bed.change(rowsFor(CLUSTER, A).filter((row) => !(row.kind === "endpoint" && row.ip === ipv4(REMOTE))));
  const other = { ...flow, server: ipv4("10.192.32.11"), to: 0 };
  for (let slices = 0; bed.scan.isChecking; slices++) {
    t.true(slices < 100);
    bed.scan.step(0, false);
    for (let i = 0; i < 50; i++) bed.addFlow(other);
  }
  const servers = new Set(liveEntries(bed.flows).map((entry) => bed.flows.sourceOf(entry + 1)));
  t.deepEqual([...servers], [other.server]);
});

// The law, over random rows and flows of a small world.

const VTEPS = [DEVICE, ipv4(B), ipv4(C)] as const;
const INGRESS = 2;
const ENDPOINTS = [2, 3, 4, 5].map((last) => ipv4(`10.192.1.${last}`));
const VIPS = [100, 101].map((last) => ipv4(`10.192.1.${last}`));
const OTHERS = ["10.192.1.1", "10.192.2.1", "10.192.0.2", "10.192.0.3", "10.192.0.4", "198.51.100.7"].map((ip) =>
  ipv4(ip),
);
const PORTS: Port[] = [
  { protocol: 6, port: 80 },
  { protocol: 6, port: 81 },
];

function network(third: number): Extract<TableRow, { kind: "network" }> {
  const base = ipv4(`10.192.${third}.0`);
  return { kind: "network", vni: 4095 + third, base, mask: maskOf(24), gateway: base + 1, internal: false };
}

const node = (isProvisional: boolean): NodeRow => ({
  ...{ kind: "node", vtep: ipv4(A), ingress: ipv4("10.192.0.2"), ingressVni: INGRESS, poolBase: ipv4("10.192.0.0") },
  ...{
    poolMask: maskOf(10),
    hostAddresses: [],
    mesh: true,
    heldPorts: [],
    nodeServices: true,
    mtu: 1450,
    isProvisional,
  },
});

const mostly = fc.nat(4).map((n) => n > 0);
interface World {
  provisional: boolean;
  networks: number[];
  agents: boolean[];
  peers: boolean[];
  ingress: readonly number[];
  vteps: Ipv4[];
  endpoints: Ipv4[];
  published: Port[];
  tasks: Ipv4[];
  draining: Ipv4[];
  vips: Ipv4[];
  denied: (readonly [Ipv4, Port[]])[];
}

/** One part of the world as it is from now on: most of it stays from one step to the next. */
const worldChange: fc.Arbitrary<Partial<World>> = fc.oneof(
  fc.record({ provisional: fc.nat(4).map((n) => n === 0) }),
  fc.record({ networks: fc.subarray([1, 2]) }),
  fc.record({ agents: fc.tuple(mostly, mostly) }),
  fc.record({ peers: fc.tuple(mostly, mostly) }),
  fc.record({ ingress: fc.constantFrom([3, 4], [4, 3], [3, 0]) }),
  fc.record({ vteps: fc.tuple(...ENDPOINTS.map(() => fc.constantFrom(...VTEPS))) }),
  fc.record({ endpoints: fc.subarray(ENDPOINTS, { minLength: 2 }) }),
  fc.record({ published: fc.subarray(PORTS) }),
  fc.record({ tasks: fc.subarray(ENDPOINTS) }),
  fc.record({ draining: fc.subarray(ENDPOINTS) }),
  fc.record({ vips: fc.subarray(VIPS) }),
  fc.record({
    denied: fc.array(fc.tuple(fc.constantFrom(...ENDPOINTS, OTHERS[5]!), fc.subarray(PORTS)), { maxLength: 2 }),
  }),
);

const WHOLE: World = {
  ...{ provisional: false, networks: [1, 2], agents: [true, true], peers: [true, true], ingress: [3, 4] },
  ...{ vteps: [DEVICE, ipv4(B), ipv4(C), DEVICE], endpoints: ENDPOINTS, published: PORTS, vips: VIPS, denied: [] },
  ...{ tasks: ENDPOINTS.slice(0, 3), draining: ENDPOINTS.slice(3) },
};

function rowsOfWorld(world: World): TableRow[] {
  const { provisional, networks, agents, peers, ingress, vteps, endpoints, published, tasks, draining, vips, denied } =
    world;
  return [
    node(provisional),
    ...networks.map(network),
    ...peers.flatMap((is, i): TableRow[] => {
      const agent = agents[i]!;
      const own = ingress[i] === 0 || !agent ? 0 : ipv4(`10.192.0.${ingress[i]}`);
      return is
        ? [{ kind: "peer", vtep: VTEPS[i + 1]!, port: 4789, ingress: own, agent, lane: agent, mesh: true }]
        : [];
    }),
    ...endpoints.map((ip): TableRow => {
      const vtep = vteps[ENDPOINTS.indexOf(ip)]!;
      return { kind: "endpoint", ip, vni: 4096, vtep, ...(published.length > 0 && { published }) };
    }),
    ...vips.map(
      (ip): TableRow => ({ ...newVip, ip, tasks, draining: draining.filter((task) => !tasks.includes(task)) }),
    ),
    ...denied.map(([ip, ports]): TableRow => ({ kind: "denied", ip, ports })),
  ];
}

interface FlowSpec {
  client: Ipv4;
  from: Ipv4;
  server: Ipv4;
  to: Ipv4;
  vip: Ipv4;
  zone: number;
  port: number;
}

const worldFlow: fc.Arbitrary<FlowSpec> = fc.record({
  client: fc.constantFrom(...ENDPOINTS, ...OTHERS),
  from: fc.constantFrom(...VTEPS),
  server: fc.constantFrom(...ENDPOINTS, ...OTHERS),
  to: fc.constantFrom(...VTEPS),
  vip: fc.constantFrom(0, ...VIPS),
  zone: fc.constantFrom(0, INGRESS, 4096),
  port: fc.constantFrom(80, 81),
});

const health = { isReachable: () => true } as unknown as PeerHealth;
const resets = { flow: () => {} } as unknown as Resets;

/** Tables, flows, and the walk that ends those without ground. */
class Bed {
  readonly flows: FlowTable;
  readonly tables = new Tables();
  readonly scan: FlowScan;
  readonly check: FlowCheck;
  #rows: TableRows = new Map();
  #port = 0;

  constructor(capacity = 256) {
    this.flows = FlowTable.open(new ArrayBuffer(FlowTable.bytesFor(capacity)), capacity, 1);
    const { flows, tables } = this;
    this.check = new FlowCheck({ flows, tables, health, resets });
    this.scan = new FlowScan(flows, this.check);
  }

  /** Puts the rows in force; the walk has not begun. */
  change(rows: readonly TableRow[]): void {
    const after = rowsOf(rows);
    if (this.tables.apply(diffTables(this.#rows, after)).hasLostGround) this.scan.checkAll();
    this.#rows = after;
  }

  apply(rows: readonly TableRow[]): void {
    this.change(rows);
    while (this.scan.isChecking) this.scan.step(0, false);
  }

  addFlow({ client, from, server, to, vip, zone, port }: FlowSpec): number {
    const { flows } = this;
    const clientPort = ++this.#port;
    const key = [zone, 6, client, vip || server, (clientPort << 16) | port] as const;
    const entry = reserve(flows, key, [zone, server, client, (port << 16) | clientPort]);
    flows.setPath(entry, from, to, zone);
    flows.setPath(entry + 1, to, from, zone);
    flows.setVip(entry, vip);
    for (const side of [entry, entry + 1]) flows.setEpoch(side, this.tables.epoch);
    flows.setTimeout(entry, 1000);
    flows.publish(entry, FlowState.Established);
    return entry;
  }

  /** The flows that tables made whole from these rows bear out. */
  borneOut(rows: readonly TableRow[], entries: readonly number[]): number[] {
    const tables = new Tables();
    tables.apply(diffTables(new Map(), rowsOf(rows)));
    const check = new FlowCheck({ flows: this.flows, tables, health, resets });
    return entries.filter((entry) => check.isBorneOut(entry));
  }
}

test("whatever rows come and go, the flows that are left are those that tables made whole bear out", (t) => {
  const steps = fc.array(fc.tuple(worldChange, fc.array(worldFlow, { maxLength: 20 })), { minLength: 2, maxLength: 8 });
  let ended = 0;
  let left = 0;
  const property = fc.property(steps, (states) => {
    const bed = new Bed();
    let world = WHOLE;
    for (const [change, specs] of states) {
      world = { ...world, ...change };
      const rows = rowsOfWorld(world);
      const before = liveEntries(bed.flows);
      bed.apply(rows);
      const after = liveEntries(bed.flows);
      t.deepEqual(after, bed.borneOut(rows, before));
      ended += before.length - after.length;
      left += after.length;
      for (const spec of specs) {
        const entry = bed.addFlow(spec);
        if (bed.borneOut(rows, [entry]).length === 0) bed.flows.removeLocked(entry); // no decision would have made it
      }
    }
  });
  fc.assert(property, { numRuns: 600 });
  t.log(`${ended} flows ended, ${left} stayed`);
  t.true(ended > 100 && left > 100);
});
