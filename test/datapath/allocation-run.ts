// Run with --expose-gc and a young generation that no run fills: carries packets between two engines, and writes how
// many bytes of heap they took, as JSON. Nothing is collected in between, so that garbage counts too. "lane": both have an
// express lane, which carries nothing. "sealed": their network is.
import { ENGINE_MEMORY_BYTES, Engine, Side } from "../../src/datapath/engine.ts";
import { FlowTable } from "../../src/datapath/flow-table.ts";
import { ipv4 } from "../../src/lib/ip.ts";
import { AeadEngine } from "../../src/linux/aead.ts";
import { PacketMemory } from "../../src/packet/memory.ts";
import { diffTables } from "../fakes/diff-tables.ts";
import { ACK, type Fields, ipPacket } from "../fakes/ip-packets.ts";
import { rowsFor } from "../fakes/nodes.ts";
import { rowsOf } from "../fakes/rows-of.ts";
import { agree, SEALED_CLUSTER } from "../fakes/sealed-nodes.ts";
import { seededRandom } from "../fakes/seeded-random.ts";
import { A, B, CLUSTER } from "../fakes/two-nodes.ts";
import { StillDevice, StillLane, StillUnderlay } from "./still-wire.ts";

const FLOW_CAPACITY = 65_536;
const PACKETS = 200_000;
const NEW_FLOWS = 20_000;

export interface AllocationReport {
  packets: number;
  bytesPerPacket: number;
  newFlows: number;
  bytesPerNewFlow: number;
  drops: Record<string, number>[];
  /** Bytes that came out of the devices. */
  carried: number;
  /** Entries that were given to express lanes. */
  entered: number;
}

const REMOTE = "10.192.32.20";
const LOCAL = "10.192.32.10";
const VIP = "10.192.32.2";

/** As many of each as there are source ports. */
function packets(fields: Fields, count: number, gsoBytes = 0): { bytes: Uint8Array; gsoBytes: number }[] {
  return Array.from({ length: count }, (_, i) => ({
    bytes: ipPacket({ flags: ACK, sourcePort: 2000 + i, partial: true, ...fields }),
    gsoBytes,
  }));
}

const body = new Uint8Array(1000);
const fromA = [
  ...packets({ source: LOCAL, destination: REMOTE, payload: body }, 8),
  ...packets({ source: LOCAL, destination: REMOTE, payload: new Uint8Array(20_000), destinationPort: 81 }, 2, 1350),
  ...packets({ source: LOCAL, destination: VIP, payload: body }, 6),
  ...packets({ source: LOCAL, destination: "10.192.32.11", payload: body }, 4),
  ...packets({ source: LOCAL, destination: REMOTE, protocol: "udp", payload: body }, 8),
  ...packets({ source: LOCAL, destination: VIP, protocol: "udp", payload: body }, 4),
];
const ASKED = packets(
  { source: LOCAL, destination: "10.192.32.1", protocol: "udp", destinationPort: 53, payload: new Uint8Array(40) },
  4,
);
fromA.push(...ASKED);
const fromB = [
  ...packets({ source: REMOTE, destination: LOCAL, payload: body }, 16),
  ...packets({ source: REMOTE, destination: LOCAL, protocol: "udp", payload: body }, 16),
];
const memory = new PacketMemory(3 * ENGINE_MEMORY_BYTES);
const devices = [new StillDevice(memory, fromA), new StillDevice(memory, fromB)];
const underlays = [new StillUnderlay(memory, ipv4(A)), new StillUnderlay(memory, ipv4(B))];
underlays[0]!.connect(underlays[1]!);
underlays[1]!.connect(underlays[0]!);
const isSealed = process.argv[2] === "sealed";
const sealed = [new StillUnderlay(memory, ipv4(A)), new StillUnderlay(memory, ipv4(B))] as const;
sealed[0].connect(sealed[1]);
sealed[1].connect(sealed[0]);
const lanes = process.argv[2] === "lane" ? [new StillLane(), new StillLane()] : [];
const engines = [0, 1].map((i) => {
  const engine = new Engine({
    memory,
    device: devices[i]!,
    underlay: underlays[i]!,
    flows: FlowTable.open(new ArrayBuffer(FlowTable.bytesFor(FLOW_CAPACITY)), FLOW_CAPACITY, i),
    lane: lanes[i],
    isFirst: true,
    now: () => 1000,
    random: seededRandom(i),
    newFlowsPerSecond: 2 * NEW_FLOWS,
    sealed: isSealed ? { underlay: sealed[i]!, keys: new AeadEngine(memory) } : undefined,
  });
  return engine;
});

const [first, second] = engines as [Engine, Engine];
if (isSealed) agree({ vtep: A, engine: first }, { vtep: B, engine: second });
for (const [i, vtep] of [A, B].entries())
  engines[i]!.apply(diffTables(new Map(), rowsOf(rowsFor(isSealed ? SEALED_CLUSTER : CLUSTER, vtep))));
first.answers.add({
  client: ipv4(LOCAL),
  server: ipv4("10.192.32.1"),
  question: new Uint8Array(40),
  response: new Uint8Array(60),
});

/** Lets both engines read until they have read so many packets. */
function carry(count: number): void {
  for (let read = 0; read < count; read += fromA.length + fromB.length) {
    devices[0]!.armed = devices[1]!.armed = true;
    do {
      first.step(Side.All);
      second.step(Side.All);
    } while (first.carried + second.carried > 0);
  }
}

/** Bytes of heap that `count` packets take. */
function measure(count: number): number {
  globalThis.gc!();
  const before = process.memoryUsage().heapUsed;
  carry(count);
  return process.memoryUsage().heapUsed - before;
}

const setNewFlows = (newFlows: boolean): void => {
  for (const device of devices) device.newFlows = newFlows;
};

carry(PACKETS / 4); // compiled by now
const established = measure(PACKETS);
setNewFlows(true);
carry(NEW_FLOWS);
const made = measure(NEW_FLOWS);
const report: AllocationReport = {
  packets: PACKETS,
  bytesPerPacket: established / PACKETS,
  newFlows: NEW_FLOWS,
  bytesPerNewFlow: made / NEW_FLOWS,
  drops: engines.map((engine) => engine.report().drops),
  carried: devices.reduce((sum, { writtenBytes }) => sum + writtenBytes[0]!, 0),
  entered: lanes.reduce((sum, { entered }) => sum + entered, 0),
};
process.stdout.write(JSON.stringify(report));
