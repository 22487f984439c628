// What the express lane itself costs on this machine, without agents and without a network: flows that enter and leave it, the walk through
// what it has counted, the memory of its maps, and a run of its programs.
import { ExpressCounts } from "../src/datapath/express-counts.ts";
import { rideBit } from "../src/datapath/express-marks.ts";
import { flowsShape, Origin, VALUE_BYTES, Value } from "../src/express/layout.ts";
import { ExpressScan } from "../src/express/scan.ts";
import { PlatformError } from "../src/lib/errors.ts";
import { ipv4 } from "../src/lib/ip.ts";
import { Tcx } from "../src/linux/bpf-abi.ts";
import { BpfAssembler } from "../src/linux/bpf-assembler.ts";
import { BpfMap } from "../src/linux/bpf-map.ts";
import { describeMap } from "../src/linux/bpf-objects.ts";
import { whatBpfLacks } from "../src/linux/bpf-probe.ts";
import { loadProgram, ProgramType, runProgram } from "../src/linux/bpf-program.ts";
import * as libc from "../src/linux/libc.ts";
import { PacketMemory } from "../src/packet/memory.ts";
import { LaneFlows } from "../test/express/lane-flows.ts";
import {
  CLIENT_PORT,
  ethernet,
  fromPeer,
  LaneRig,
  LOCAL,
  LOCAL_TOO,
  REMOTE,
  SERVER_PORT,
  toContainer,
  toPeer,
  VIP,
  vxlan,
} from "../test/express/lane-rig.ts";
import { ACK, type Fields, ipPacket } from "../test/fakes/ip-packets.ts";
import type { Contender, Experiment, Metric, Sample } from "./experiment.ts";
import { LANE_ENTRIES } from "./lane.ts";
import { LIMITS } from "./limits.ts";
import type { BenchOptions } from "./options.ts";
import { summarize } from "./statistics.ts";

/** Each has two entries: 65,536. */
const FLOWS = 32_768;
const QUICK_FLOWS = 2048;
/** Flows whose entries a worker writes together, with one call: those of a batch of packets. */
const BATCHES = [32, 4, 1];
const FIRST_PORT = 1024;
const SCAN_BATCH = 1024;
const RUNS = 5000;
const QUICK_RUNS = 200;

/** `lack`: what stands against the lane on this machine; then no experiment begins, and each says so. */
export function expressExperiments({ quick }: Pick<BenchOptions, "quick">, lack = whatBpfLacks()): Experiment[] {
  const flows = quick ? QUICK_FLOWS : FLOWS;
  const runs = quick ? QUICK_RUNS : RUNS;
  return [entering(flows), scanning(flows), memory(), running(runs)].map((part) => overLane(part, lack));
}

/** Maps of their default size with the programs over them, and a flow table with as many flows of containers as are asked for. */
class Lane {
  readonly rig = new LaneRig(LANE_ENTRIES);
  readonly flows: LaneFlows;
  /** The flows' original entries. */
  readonly originals: readonly number[];

  constructor(count: number) {
    this.flows = new LaneFlows(this.rig, LANE_ENTRIES, 2 * FLOWS);
    this.originals = Array.from({ length: count }, (_, i) => this.flows.add({ clientPort: FIRST_PORT + i }));
  }

  /** Both directions of every flow enter, the entries of `batch` flows with one call. */
  enterAll(batch: number): void {
    const { flows, originals } = this;
    for (let i = 0; i < originals.length; i++) {
      flows.enter(originals[i]!);
      flows.enter(originals[i]! + 1);
      if ((i + 1) % batch === 0) flows.installer.flush();
    }
    flows.installer.flush();
    if (flows.installer.refused > 0) throw new Error(`the map has refused ${flows.installer.refused} entries`);
  }

  /** Every flow ends: its entries are taken out one by one, with what they have counted. */
  leaveAll(): void {
    const { flows, originals } = this;
    for (const original of originals) {
      for (let side = original; side <= original + 1; side++) {
        flows.table.removeRide(side, rideBit(side));
        if (!flows.take(side)) throw new Error("a flow has left its entry in the lane");
      }
    }
  }

  close(): void {
    this.flows.installer.close();
    this.rig.close();
  }
}

interface Part {
  title: string;
  metrics: readonly Metric[];
  /** Flows that there are. */
  flows: number;
  contenders: readonly { name: string; measure(lane: Lane): Sample }[];
}

function overLane({ title, metrics, flows, contenders }: Part, lack: string | undefined): Experiment {
  let lane: Lane | undefined;
  const contend = ({ name, measure }: Part["contenders"][number]): Contender => ({
    name,
    measure: async () => measure(lane!),
  });
  return {
    group: "express",
    title,
    metrics,
    contenders: contenders.map(contend),
    before: async () => {
      if (lack !== undefined) throw new PlatformError(`there is no express lane here: ${lack}`, "see docs/express.md");
      lane = new Lane(flows);
    },
    after: async () => lane?.close(),
  };
}

function entering(flows: number): Part {
  return {
    title: "flows enter and leave the lane, one worker",
    metrics: [
      { id: "entering", unit: "1000 in a CPU second", digits: 1, alone: true },
      { id: "leaving", unit: "1000 in a CPU second", digits: 1, alone: true },
    ],
    flows,
    contenders: BATCHES.map((batch) => ({
      name: `${batch} ${batch === 1 ? "flow" : "flows"} a batch`,
      measure: (lane) => {
        const entering = cpuMillisecondsOf(() => lane.enterAll(batch));
        const leaving = cpuMillisecondsOf(() => lane.leaveAll());
        return { entering: flows / entering, leaving: flows / leaving };
      },
    })),
  };
}

function scanning(flows: number): Part {
  const measure = (lane: Lane, haveCarried: boolean): Sample => {
    lane.enterAll(BATCHES[0]!);
    if (haveCarried) countPackets(lane);
    const { table } = lane.flows;
    const counts = new ExpressCounts(table, () => {});
    const memory = new PacketMemory(ExpressScan.memoryBytes);
    const scan = new ExpressScan({ memory, flows: table, counts, map: lane.rig.maps.flows, capacity: LANE_ENTRIES });
    const walk = (): void => {
      while (scan.step());
    };
    if (!haveCarried) walk(); // the first one looks every flow up
    const cpu = cpuMillisecondsOf(walk);
    const found = [scan.entries, counts.packets];
    if (`${found}` !== `${[2 * flows, haveCarried ? 2 * flows : 0]}`) {
      throw new Error(`the walk has found ${found.join(" entries, ")} packets`);
    }
    return { CPU: cpu };
  };
  return {
    title: `${2 * flows} entries are scanned`,
    metrics: [{ id: "CPU", unit: "ms", digits: 1, alone: true, limit: LIMITS.laneScan }],
    flows,
    contenders: [
      { name: "each has carried a packet", measure: (lane) => measure(lane, true) },
      { name: "none has since the last walk", measure: (lane) => measure(lane, false) },
    ],
  };
}

/** Has every entry in the map count a packet, as if its program had run. */
function countPackets({ rig }: Lane): void {
  const memory = new PacketMemory(ExpressScan.memoryBytes);
  const map = new BpfMap(memory, rig.maps.flows, flowsShape(LANE_ENTRIES), SCAN_BATCH);
  for (let count = map.lookupBatch(); count > 0; count = map.lookupBatch()) {
    for (let i = 0; i < count; i++) {
      const at = map.values + i * VALUE_BYTES + Value.Packets;
      memory.view.setUint32(at, memory.view.getUint32(at, true) + 1, true);
    }
    map.updateBatch(count);
  }
}

function memory(): Part {
  return {
    title: `memory of the maps, ${LANE_ENTRIES} entries`,
    metrics: [{ id: "in the kernel", unit: "Mbyte", digits: 1, alone: true, limit: LIMITS.laneMegabytes }],
    flows: 0,
    contenders: [
      {
        name: "overlayd",
        measure: ({ rig }) => {
          const bytes = Object.values(rig.maps).map((fd: number) => describeMap(fd).memoryBytes);
          return { "in the kernel": bytes.reduce((sum, of) => sum + of, 0) / 1e6 };
        },
      },
    ],
  };
}

const PACKET: Fields = {
  ...{ source: LOCAL, destination: VIP, sourcePort: CLIENT_PORT, destinationPort: SERVER_PORT, flags: ACK },
  payload: new Uint8Array(100),
};
const ANSWER: Fields = {
  ...PACKET,
  ...{ source: REMOTE, destination: LOCAL, sourcePort: SERVER_PORT, destinationPort: CLIENT_PORT },
};
const BY_VIP = { destination: ipv4(VIP), vip: ipv4(VIP) };
const OTHER_PORT = CLIENT_PORT + 1;

/** Flows by a VIP, and the same packet of another port, whose flow has no entry. */
const RUN = [
  {
    ...{ name: "to a peer", origin: Origin.Container, entry: toPeer({ ...BY_VIP, newDestination: ipv4(REMOTE) }) },
    ...{ hit: ethernet(ipPacket(PACKET)), miss: ethernet(ipPacket({ ...PACKET, sourcePort: OTHER_PORT })) },
  },
  {
    ...{ name: "from a peer", origin: Origin.Underlay, entry: fromPeer({ newSource: ipv4(VIP), vip: ipv4(VIP) }) },
    ...{ hit: vxlan(ipPacket(ANSWER)), miss: vxlan(ipPacket({ ...ANSWER, destinationPort: OTHER_PORT })) },
  },
  {
    ...{ name: "to a container of this node", origin: Origin.Container },
    entry: toContainer({ ...BY_VIP, newDestination: ipv4(LOCAL_TOO) }),
    ...{ hit: ethernet(ipPacket(PACKET)), miss: ethernet(ipPacket({ ...PACKET, sourcePort: OTHER_PORT })) },
  },
] as const;

function running(runs: number): Part {
  return {
    title: "a run of a program on a TCP segment of 100 bytes",
    metrics: [
      { id: "a hit", unit: "ns", digits: 0, alone: true },
      { id: "a miss", unit: "ns", digits: 0, alone: true },
    ],
    flows: 0,
    contenders: [
      ...RUN.map(({ name, origin, entry, hit, miss }) => ({
        name,
        measure: ({ rig }: Lane) => {
          rig.enter(entry);
          const program = rig.program(origin);
          const sample = {
            "a hit": nanosecondsOf(program, hit, Tcx.Redirect, runs),
            "a miss": nanosecondsOf(program, miss, Tcx.Next, runs),
          };
          rig.leave(entry);
          return sample;
        },
      })),
      { name: "a program that does nothing", measure: () => nothing(runs) },
    ],
  };
}

/** What the kernel's clock and the run itself take of each figure. */
function nothing(runs: number): Sample {
  const code = new BpfAssembler().exit(Tcx.Next).assemble();
  const program = loadProgram({ type: ProgramType.SchedCls, name: "nothing", code });
  try {
    const took = nanosecondsOf(program, RUN[0].hit, Tcx.Next, runs);
    return { "a hit": took, "a miss": took };
  } finally {
    libc.close(program);
  }
}

/** The median of runs that are started one by one: a second run would find the packet as the first has left it. */
function nanosecondsOf(program: number, frame: Uint8Array, wanted: number, runs: number): number {
  const took = Array.from({ length: runs }, () => {
    const { verdict, nanoseconds } = runProgram(program, frame);
    if (verdict !== wanted) throw new Error(`the program's verdict is ${verdict}, not ${wanted}`);
    return nanoseconds;
  });
  return summarize(took).median;
}

/** CPU time, which is the time that the work takes where nothing else runs. */
function cpuMillisecondsOf(work: () => void): number {
  const before = process.cpuUsage();
  work();
  const { user, system } = process.cpuUsage(before);
  return (user + system) / 1000;
}
