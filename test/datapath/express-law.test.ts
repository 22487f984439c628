// The law of the express lane: whatever packets come and whatever tables change, it forwards at every moment only what the tables of some
// worker allow. Two workers share the flows and the lane, and have new tables one a moment before the other.
import test from "ava";
import fc from "fast-check";
import { ENGINE_MEMORY_BYTES, Engine, Side } from "../../src/datapath/engine.ts";
import { FlowTable } from "../../src/datapath/flow-table.ts";
import type { TableRow, TableRows } from "../../src/datapath/rows.ts";
import type { Tables } from "../../src/datapath/tables.ts";
import { type Ipv4, ipv4, OUTSIDE as WAYS_OUTSIDE } from "../../src/lib/ip.ts";
import { Protocol } from "../../src/packet/ipv4.ts";
import { PacketMemory } from "../../src/packet/memory.ts";
import { diffTables } from "../fakes/diff-tables.ts";
import { type CarriedByLane, FakeKernelLane, FakeLane } from "../fakes/express-lane.ts";
import { frame } from "../fakes/frames.ts";
import { InProcessDevice, InProcessNetwork } from "../fakes/in-process.ts";
import { ACK, FIN, type Fields, ipPacket, RST, SYN } from "../fakes/ip-packets.ts";
import { INGRESS_VNI, rowsFor } from "../fakes/nodes.ts";
import { rowsOf } from "../fakes/rows-of.ts";
import { seededRandom } from "../fakes/seeded-random.ts";
import { A, B, CLUSTER, WEB } from "../fakes/two-nodes.ts";

const CAPACITY = 64;
const C = "192.0.2.13";
const VIP = "10.192.32.2";
const CONTAINERS = ["10.192.32.10", "10.192.32.11", "10.192.32.20"];
/** A client of a published port of node B, and of two of this one: for a task here, and for one on node B. */
const OUTSIDE = "198.51.100.7";
const MESH_VIPS = ["10.192.0.101", "10.192.0.100"].map(ipv4);
const MESH_PORTS = [9201, 9200];
const MESH_TASKS = ["10.192.32.10", "10.192.32.20"];
const VTEPS = [0, ipv4(B), ipv4(C)];
const ROWS: TableRow[] = [
  ...rowsFor({ ...CLUSTER, nodes: { ...CLUSTER.nodes, [C]: "10.192.0.4" } }, A).filter(({ kind }) => kind !== "denied"),
];

/** What a worker's tables allow. It names every row that the packet's way stands on. */
function allows(tables: Tables, { client, server, vip, from, to }: CarriedByLane["grounds"]): boolean {
  const isAt = (address: Ipv4, vtep: Ipv4): boolean => {
    const endpoint = tables.endpoints.get(address);
    const isPeer = vtep === 0 || tables.peers.get(vtep)?.lane === true;
    return endpoint?.vni === WEB && endpoint.vtep === vtep && isPeer && tables.networks.has(WEB);
  };
  if (client === ipv4(OUTSIDE)) {
    if (from === 0) return comesByEntrance(tables, server, vip, to) && isAt(server, to);
    const task = tables.endpoints.get(server);
    const isPeer = from !== 0 && tables.peers.get(from)?.lane === true;
    return isPeer && to === 0 && isAt(server, 0) && tables.publishes(task!, Protocol.Tcp, 80);
  }
  if (!isAt(client, from) || !isAt(server, to)) return false;
  if (vip === 0) return true;
  const row = tables.vips.get(vip);
  return row !== undefined && (row.tasks.includes(server) || row.draining.includes(server));
}

/** Whether a client outside may reach the server by this node, on its own address. */
function comesByEntrance({ node, hostAddresses, vips }: Tables, server: Ipv4, vip: Ipv4, to: Ipv4): boolean {
  const row = vips.get(vip);
  const isPublished = row?.ports?.some(({ published }) => published === MESH_PORTS[MESH_VIPS.indexOf(vip)]) === true;
  if (!isPublished || !node.mesh || !hostAddresses.has(ipv4(A))) return false;
  return (row!.tasks.includes(server) || row!.draining.includes(server)) && VTEPS.includes(to);
}

type Change = (rows: TableRow[], pick: number) => TableRow[];
const isEndpoint = (row: TableRow, pick: number): boolean =>
  row.kind === "endpoint" && row.ip === ipv4(CONTAINERS[pick % CONTAINERS.length]!);
const CHANGES: Change[] = [
  () => ROWS,
  () => ROWS,
  () => ROWS,
  () => ROWS,
  (rows, pick) => rows.filter((row) => !isEndpoint(row, pick)),
  (rows, pick) =>
    rows.map((row) => (isEndpoint(row, pick) ? ({ ...row, vtep: VTEPS[(pick % 7) % 3]! } as TableRow) : row)),
  (rows) => rows.filter((row) => !(row.kind === "vip" && row.ip === ipv4(VIP))),
  (rows, pick) =>
    rows.map((row) => {
      if (row.kind !== "vip" || row.ip !== ipv4(VIP)) return row;
      const tasks = CONTAINERS.filter((_, i) => (pick >> i) % 2 === 1).map(ipv4);
      return { ...row, tasks, draining: [], balancing: { ...row.balancing, weights: tasks.map(() => 1) } };
    }),
  (rows, pick) => rows.filter((row) => !(row.kind === "peer" && row.vtep === VTEPS[1 + (pick % 2)])),
  (rows, pick) =>
    rows.map((row) =>
      row.kind === "peer" && row.vtep === VTEPS[1 + (pick % 2)] ? { ...row, lane: pick % 4 < 2 } : row,
    ),
  (rows) => rows.filter((row) => !(row.kind === "network" && row.vni === WEB)),
  (rows) =>
    rows.map((row) => {
      if (row.kind !== "endpoint") return row;
      const { published: _, ...closed } = row;
      return closed;
    }),
  (rows, pick) =>
    rows.map((row) => {
      if (row.kind === "node") return pick % 3 === 0 ? { ...row, hostAddresses: [] } : { ...row, mesh: pick % 2 === 0 };
      return row.kind === "vip" && row.ip === MESH_VIPS[pick % 2] ? { ...row, ports: [] } : row;
    }),
];

interface Way {
  asked: string;
  port: number;
  server: string;
  clientPort: number;
  /** Where the client's packets come from. */
  vtep: Ipv4;
}

/** A client outside comes by node B to a task of this node, or by this node to a task here or there. */
const OUTSIDE_WAYS = [
  ...Array<Way>(2).fill({ asked: CONTAINERS[0]!, port: 80, server: CONTAINERS[0]!, clientPort: 4000, vtep: ipv4(B) }),
  ...MESH_PORTS.map((port, i) => ({ asked: A, port, server: MESH_TASKS[i]!, clientPort: 4001 + i, vtep: 0 })),
].map((way) => ({ ...way, client: OUTSIDE, answered: OUTSIDE }));

/** Segments with numbers that fit one another, and datagrams. */
const KINDS: Partial<Fields>[] = [
  { flags: SYN, sequence: 1000 },
  ...Array<Partial<Fields>>(5).fill({ flags: ACK, sequence: 1001, acknowledgment: 5001 }),
  ...Array<Partial<Fields>>(8).fill({ protocol: "udp" }),
  { flags: FIN | ACK, sequence: 1001, acknowledgment: 5001 },
  { flags: RST, sequence: 1001 },
];
const ANSWERS: Partial<Fields>[] = [
  ...Array<Partial<Fields>>(3).fill({ flags: SYN | ACK, sequence: 5000, acknowledgment: 1001 }),
  ...Array<Partial<Fields>>(4).fill({ flags: ACK, sequence: 5001, acknowledgment: 1001 }),
  ...Array<Partial<Fields>>(8).fill({ protocol: "udp" }),
  { flags: RST, sequence: 5001 },
];

type Step =
  | {
      what: "packet";
      worker: number;
      from: number;
      to: number;
      kind: number;
      answers: boolean;
      vtep: number;
      outside: boolean;
    }
  | { what: "change"; change: number; pick: number }
  | { what: "apply"; worker: number }
  | { what: "tick"; worker: number };

const index = fc.nat(1_000_000);
const worker = fc.nat(1);
const STEP: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 100,
    arbitrary: fc.record({
      ...{
        what: fc.constant("packet" as const),
        worker,
        from: fc.nat(2),
        to: fc.nat(3),
        kind: fc.nat(KINDS.length - 1),
      },
      ...{ answers: fc.boolean(), vtep: fc.nat(19), outside: fc.nat(2).map((n) => n === 0) },
    }),
  },
  { weight: 3, arbitrary: fc.record({ what: fc.constant("change" as const), change: index, pick: index }) },
  { weight: 5, arbitrary: fc.record({ what: fc.constant("apply" as const), worker }) },
  { weight: 1, arbitrary: fc.record({ what: fc.constant("tick" as const), worker }) },
);

type MakeLane = (kernel: FakeKernelLane, flows: FlowTable, index: number) => FakeLane;

class Node {
  carried = 0;
  /** Those of clients outside among them. */
  fromOutside = 0;
  readonly #kernel = new FakeKernelLane(() => 1);
  readonly #workers: { engine: Engine; device: InProcessDevice; network: InProcessNetwork; version: number }[];
  readonly #versions: TableRows[] = [rowsOf(ROWS)];

  constructor(makeLane: MakeLane) {
    const buffer = new ArrayBuffer(FlowTable.bytesFor(CAPACITY));
    this.#workers = [FlowTable.open(buffer, CAPACITY, 1), FlowTable.join(buffer, CAPACITY)].map((flows, i) => {
      const memory = new PacketMemory(ENGINE_MEMORY_BYTES);
      const device = new InProcessDevice(memory);
      const network = new InProcessNetwork();
      const underlay = network.attach(memory, { address: ipv4(A), port: 4789 });
      const lane = makeLane(this.#kernel, flows, i);
      const engine = new Engine({
        ...{ memory, device, underlay, flows, lane, isFirst: i === 0, now: () => 1000, random: seededRandom(1) },
      });
      engine.apply(diffTables(new Map(), this.#versions[0]!));
      return { engine, device, network, version: 0 };
    });
  }

  run(step: Step): void {
    switch (step.what) {
      case "packet":
        this.#packet(step);
        return;
      case "change": {
        // The next tables come when both workers have the last ones.
        const last = this.#versions.length - 1;
        if (this.#workers.some(({ version }) => version < last)) return;
        const rows = [...this.#versions[last]!.values()];
        this.#versions.push(rowsOf(CHANGES[step.change % CHANGES.length]!(rows, step.pick)));
        return;
      }
      case "apply": {
        const own = this.#workers[step.worker]!;
        const next = this.#versions[own.version + 1];
        if (next === undefined) return;
        own.engine.apply(diffTables(this.#versions[own.version]!, next));
        own.version++;
        return;
      }
      case "tick":
        this.#workers[step.worker]!.engine.tick();
    }
  }

  /** By the lane if it takes the packet, to a worker else. */
  #packet({ worker: at, from, to, kind, answers, vtep, outside }: Extract<Step, { what: "packet" }>): void {
    const [own, other] = [CONTAINERS[from]!, [...CONTAINERS, VIP][to]!];
    const inside = { client: own, asked: other, port: 80, server: own, answered: other, clientPort: 4000, vtep: 0 };
    const way = outside ? OUTSIDE_WAYS[to]! : inside;
    const source = answers ? way.server : way.client;
    const target = answers ? way.answered : way.asked;
    const zone = outside ? INGRESS_VNI : WEB;
    if (source === target) return;
    const ports = answers
      ? { sourcePort: 80, destinationPort: way.clientPort }
      : { sourcePort: way.clientPort, destinationPort: way.port };
    const fields = (answers ? ANSWERS : KINDS)[kind]!;
    const packet = ipPacket({ source, destination: target, ...ports, ...fields });
    // Mostly from where the tables have it.
    const { engine, device, network } = this.#workers[at]!;
    const usual = source === OUTSIDE ? way.vtep : (engine.tables.endpoints.get(ipv4(source))?.vtep ?? 0);
    const origin = vtep < 17 ? usual : VTEPS[vtep - 17]!;
    const carried = this.#kernel.carry(origin === 0 ? 0 : zone, origin, packet);
    if (carried === undefined) {
      if (origin === 0) device.inject(packet);
      else {
        const payload = frame(packet, { vni: zone });
        network.carry({ from: origin, fromPort: 5000, to: ipv4(A), toPort: 4789, tos: 0, payload });
      }
      engine.step(Side.All);
      device.takeWritten();
      return;
    }
    this.carried++;
    if (outside) this.fromOutside++;
    if (this.#workers.some((own) => allows(own.engine.tables, carried.grounds))) return;
    throw new Error(`forwarded against all tables: ${JSON.stringify(carried.grounds)}`);
  }
}

const honest: MakeLane = (kernel, flows) => new FakeLane(kernel, flows);

function law(makeLane: MakeLane, seen = { carried: 0, fromOutside: 0 }): fc.IProperty<[Step[]]> {
  return fc.property(fc.array(STEP, { minLength: 500, maxLength: 1500 }), (steps) => {
    const node = new Node(makeLane);
    for (const step of steps) node.run(step);
    seen.carried += node.carried;
    seen.fromOutside += node.fromOutside;
  });
}

test("at no moment does the lane forward what the tables of all workers refuse", (t) => {
  const seen = { carried: 0, fromOutside: 0 };
  fc.assert(law(honest, seen), { numRuns: 15 });
  t.log(`${seen.carried} packets were carried by the lane, ${seen.fromOutside} of clients outside`);
  t.true(seen.carried > 500, `${seen.carried} packets were carried by it`);
  t.true(seen.fromOutside > 20, `${seen.fromOutside} of clients outside`);
});

/** Counts nothing. */
class Deaf extends FakeLane {
  override lose(): void {}
  override loseAll(): void {}
}

/** Does not count what ends the right of clients outside to come by this node. */
class DeafToClients extends FakeLane {
  override lose(address: Ipv4): void {
    if (address !== WAYS_OUTSIDE) super.lose(address);
  }
}

/** Writes entries some flushes later, with the sum of that moment. */
class Late extends FakeLane {
  #held: { entry: number; version: number; mtu: number; wait: number }[] = [];
  readonly #table: FlowTable;

  constructor(kernel: FakeKernelLane, flows: FlowTable) {
    super(kernel, flows);
    this.#table = flows;
  }

  override enter(entry: number, version: number, _groundSum: number, mtu: number): boolean {
    this.#held.push({ entry, version, mtu, wait: 5 });
    return true;
  }

  override flush(): void {
    const flows = this.#table;
    for (const held of this.#held) held.wait--;
    for (const { entry, version, mtu } of this.#held.filter(({ wait }) => wait === 0)) {
      const original = entry & ~1;
      const [client, server] = [flows.sourceOf(original), flows.sourceOf(original + 1)];
      const [from, to] = [flows.fromOf(original), flows.toOf(original)];
      super.enter(entry, version, this.groundSum(client, server, flows.vipOf(original), from, to), mtu);
    }
    this.#held = this.#held.filter(({ wait }) => wait > 0);
    super.flush();
  }
}

/** Counts VTEPs only. */
class Blind extends FakeLane {
  override lose(address: Ipv4): void {
    if (VTEPS.includes(address)) super.lose(address);
  }
}

const MUTANTS: [title: string, makeLane: MakeLane][] = [
  ["grounds that are not counted up", (kernel, flows) => new Deaf(kernel, flows)],
  ["grounds that one worker does not count up", (kernel, flows, i) => new (i === 0 ? FakeLane : Deaf)(kernel, flows)],
  ["grounds that are counted for some addresses", (kernel, flows) => new Blind(kernel, flows)],
  ["grounds of clients outside that are not counted up", (kernel, flows) => new DeafToClients(kernel, flows)],
  ["sums that are read late", (kernel, flows) => new Late(kernel, flows)],
];
for (const [title, makeLane] of MUTANTS) {
  test(`the law's test finds ${title}`, (t) => {
    const found = fc.check(law(makeLane), { numRuns: 100, endOnFailure: true });
    t.true(found.failed);
    t.regex(String((found as { errorInstance: unknown }).errorInstance), /forwarded against all tables/);
  });
}
