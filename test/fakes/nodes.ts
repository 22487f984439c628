// Data paths of several nodes in one process, on a fake wire and under a virtual clock.
import { ENGINE_MEMORY_BYTES, Engine, Side } from "../../src/datapath/engine.ts";
import { type FlowRow, listFlows } from "../../src/datapath/flow-report.ts";
import { FlowTable } from "../../src/datapath/flow-table.ts";
import type { Balancing, Port, TableRow, TableRows } from "../../src/datapath/rows.ts";
import { cidr, ipv4, maskOf } from "../../src/lib/ip.ts";
import { AeadEngine } from "../../src/linux/aead.ts";
import { PacketMemory } from "../../src/packet/memory.ts";
import { unaccounted } from "./balance.ts";
import { diffTables } from "./diff-tables.ts";
import { FakeKernelLane, FakeLane } from "./express-lane.ts";
import { type DevicePacket, InProcessDevice, InProcessNetwork, type InProcessUnderlay } from "./in-process.ts";
import { rowsOf } from "./rows-of.ts";
import { seededRandom } from "./seeded-random.ts";
import { VirtualClock } from "./virtual-clock.ts";

export const INGRESS_VNI = 2;
export const SEALED_PORT = 4500;
const FLOW_CAPACITY = 1024;

export interface FakeNode {
  readonly vtep: string;
  readonly engine: Engine;
  readonly device: InProcessDevice;
  readonly underlay: InProcessUnderlay;
  /** Of sealed packets. */
  readonly sealed: InProcessUnderlay | undefined;
  readonly flowTable: FlowTable;
  readonly lane: FakeKernelLane | undefined;
  /** Puts exactly these rows in force. */
  apply(rows: readonly TableRow[]): void;
  /** Everything written to the device since the last call. */
  written(): DevicePacket[];
  drops(): Record<string, number>;
  /** Newest first. */
  flows(): FlowRow[];
}

export interface FakeNodes {
  readonly clock: VirtualClock;
  readonly wire: InProcessNetwork;
  readonly nodes: readonly FakeNode[];
  /** Lets every node carry until nothing is under way. */
  settle(): void;
  /** Moves time on, calling every node's tick as it asks. */
  advance(ms: number): Promise<void>;
  /** The agent of a node ends and another one takes up its flows; it has no tables yet. */
  restart(index: number): FakeNode;
}

export interface FakeNodesOptions {
  flowCapacity?: number;
  join?: boolean;
  maxSegments?: number;
  newFlowsPerSecond?: number;
  /** Each node is one of so many workers. */
  workers?: number;
  /** Each node has an express lane; lane-nodes.ts leads packets by it. */
  lanes?: boolean;
  /** Each node can seal; sealed-nodes.ts gives them keys. */
  sealed?: boolean;
}

/** Nodes with the VTEPs 192.0.2.11, .12 and so on. */
export function fakeNodes(count: number, options: FakeNodesOptions = {}): FakeNodes {
  const clock = new VirtualClock();
  const wire = new InProcessNetwork({ mtu: 65535 });
  const { flowCapacity = FLOW_CAPACITY } = options;
  const flowMemories = Array.from({ length: count }, () => new ArrayBuffer(FlowTable.bytesFor(flowCapacity)));
  const seconds = (): number => Math.floor(clock.monotonic() / 1000);
  const lanes = flowMemories.map(() => (options.lanes === true ? new FakeKernelLane(seconds) : undefined));
  let starts = 0;
  const start = (i: number): FakeNode => {
    const flows = FlowTable.open(flowMemories[i]!, flowCapacity, i);
    if (options.lanes === true) flows.forgetBarred(flows.highWater);
    return fakeNode(wire, clock, `192.0.2.${11 + i}`, starts++, flows, lanes[i], options);
  };
  const nodes = flowMemories.map((_, i) => start(i));
  const settle = (): void => {
    for (let carried = 1; carried > 0; ) {
      carried = 0;
      for (const { engine } of nodes) {
        engine.step(Side.All);
        carried += engine.carried;
      }
    }
    for (const { vtep, engine } of nodes) {
      const lost = unaccounted(engine.report());
      if (lost !== 0) throw new Error(`${lost} packets of ${vtep} came to nothing, and were not counted`);
    }
  };
  const advance = async (ms: number): Promise<void> => {
    for (let left = ms; left > 0; left -= 10) {
      await clock.advance(Math.min(10, left));
      for (const node of nodes) node.engine.tick();
      settle();
    }
  };
  const restart = (index: number): FakeNode => {
    nodes[index]!.engine.close();
    nodes[index] = start(index);
    return nodes[index];
  };
  return { clock, wire, nodes, settle, advance, restart };
}

function fakeNode(
  wire: InProcessNetwork,
  clock: VirtualClock,
  vtep: string,
  seed: number,
  flows: FlowTable,
  lane: FakeKernelLane | undefined,
  { join = false, maxSegments = 128, newFlowsPerSecond = 1_000_000, workers = 1, sealed = false }: FakeNodesOptions,
): FakeNode {
  const memory = new PacketMemory(ENGINE_MEMORY_BYTES);
  const device = new InProcessDevice(memory);
  const underlay = wire.attach(memory, { address: ipv4(vtep), port: 4789, join, maxSegments });
  const sealedUnderlay = sealed
    ? wire.attach(memory, { address: ipv4(vtep), port: SEALED_PORT, join, maxSegments })
    : undefined;
  const engine = new Engine({
    memory,
    sealed: sealedUnderlay && { underlay: sealedUnderlay, keys: new AeadEngine(memory) },
    device,
    underlay,
    flows,
    lane: lane && new FakeLane(lane, flows),
    isFirst: true,
    now: () => clock.monotonic(),
    random: seededRandom(seed + 1),
    newFlowsPerSecond,
    workers,
  });
  let rows: TableRows = new Map();
  return {
    vtep,
    engine,
    device,
    underlay,
    sealed: sealedUnderlay,
    flowTable: flows,
    lane,
    apply(next) {
      const after = rowsOf(next);
      engine.apply(diffTables(rows, after));
      rows = after;
    },
    written: () => device.takeWritten(),
    drops: () => engine.report().drops,
    flows: () => listFlows(flows, clock.monotonic() / 1000, flows.capacity),
  };
}

/** What a cluster of tests looks like; rowsFor() gives each node its view of it. */
export interface Cluster {
  /** VTEP to the node's ingress address. */
  nodes: Record<string, string>;
  /** Address to VTEP, VNI. */
  endpoints: Record<string, { vtep: string; vni: number }>;
  networks: Record<number, { subnet: string; internal?: boolean; sealed?: true }>;
  vips?: Record<
    string,
    {
      vni: number;
      tasks: string[];
      draining?: string[];
      ports?: [number, number][];
      balancing?: Partial<Balancing>;
    }
  >;
}

const SESSIONS: Port = { protocol: 6, port: 2377 };

function publishedOf({ vips = {} }: Cluster, task: string): Port[] {
  const own = Object.values(vips).filter(({ tasks, draining = [] }) => [...tasks, ...draining].includes(task));
  return own.flatMap(({ ports = [] }) => ports.map(([, target]) => ({ protocol: 6, port: target })));
}

export function rowsFor(cluster: Cluster, vtep: string): TableRow[] {
  const rows: TableRow[] = [
    {
      kind: "node",
      vtep: ipv4(vtep),
      ingress: ipv4(cluster.nodes[vtep]!),
      ingressVni: INGRESS_VNI,
      poolBase: ipv4("10.192.0.0"),
      poolMask: maskOf(10),
      hostAddresses: [ipv4(vtep)],
      mesh: true,
      heldPorts: [],
      nodeServices: true,
      mtu: 1450,
      isProvisional: false,
    },
  ];
  for (const [peer, ingress] of Object.entries(cluster.nodes)) {
    if (peer === vtep) continue;
    const own = { vtep: ipv4(peer), port: 4789, ingress: ipv4(ingress) };
    const seals = Object.values(cluster.networks).some(({ sealed }) => sealed === true) && { sealedPort: SEALED_PORT };
    rows.push({ kind: "peer", ...own, ...seals, agent: true, lane: true, mesh: true });
  }
  for (const [vni, { subnet, internal = false, sealed }] of Object.entries(cluster.networks)) {
    const { base, bits } = cidr(subnet);
    const network = { base, mask: maskOf(bits), gateway: base + 1, internal, ...(sealed && { sealed }) };
    rows.push({ kind: "network", vni: Number(vni), ...network });
  }
  for (const [address, endpoint] of Object.entries(cluster.endpoints)) {
    const published = publishedOf(cluster, address);
    rows.push({
      kind: "endpoint",
      ip: ipv4(address),
      vni: endpoint.vni,
      vtep: endpoint.vtep === vtep ? 0 : ipv4(endpoint.vtep),
      ...(published.length > 0 && { published }),
      ...(cluster.networks[endpoint.vni]?.sealed && { sealed: true as const }),
    });
  }
  const gateways = Object.values(cluster.networks).map(({ subnet }) => cidr(subnet).base + 1);
  for (const ip of gateways) rows.push({ kind: "denied", ip, ports: [SESSIONS] });
  for (const node of Object.keys(cluster.nodes)) {
    rows.push({ kind: "denied", ip: ipv4(node), ports: [SESSIONS, { protocol: 17, port: 4789 }] });
  }
  for (const [address, vip] of Object.entries(cluster.vips ?? {})) {
    rows.push({
      kind: "vip",
      ip: ipv4(address),
      vni: vip.vni,
      service: `service-${address}`,
      tasks: vip.tasks.map(ipv4),
      draining: (vip.draining ?? []).map(ipv4),
      balancing: {
        scheduler: "rr",
        weights: vip.tasks.map(() => 1),
        affinitySeconds: 0,
        preferLocal: false,
        ...vip.balancing,
      },
      hostMode: false,
      ports: vip.ports?.map(([published, target]) => ({ protocol: 6, published, target, address: 0 })) ?? null,
    });
  }
  return rows;
}
