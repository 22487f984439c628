// Two workers of one data path, which share their flows and get new tables one a moment before the other.
import test from "ava";
import { ENGINE_MEMORY_BYTES, Engine, Side } from "../../src/datapath/engine.ts";
import { FlowTable } from "../../src/datapath/flow-table.ts";
import type { TableRow } from "../../src/datapath/rows.ts";
import { ipv4 } from "../../src/lib/ip.ts";
import { PacketMemory } from "../../src/packet/memory.ts";
import { diffTables } from "../fakes/diff-tables.ts";
import { InProcessDevice, InProcessNetwork } from "../fakes/in-process.ts";
import { ACK, describe, type Fields, ipPacket, SYN } from "../fakes/ip-packets.ts";
import { rowsFor } from "../fakes/nodes.ts";
import { rowsOf } from "../fakes/rows-of.ts";
import { seededRandom } from "../fakes/seeded-random.ts";
import { A, brief, CLUSTER, WEB } from "../fakes/two-nodes.ts";

const CAPACITY = 64;
const CLIENT = "10.192.32.10";
const NEW_TASK = "10.192.32.30";
const BEFORE = rowsOf(rowsFor(CLUSTER, A));
const NEW_ROW: TableRow = { kind: "endpoint", ip: ipv4(NEW_TASK), vni: WEB, vtep: 0 };
const AFTER = rowsOf([...rowsFor(CLUSTER, A), NEW_ROW]);

function worker(flows: FlowTable, isFirst: boolean) {
  const memory = new PacketMemory(ENGINE_MEMORY_BYTES);
  const device = new InProcessDevice(memory);
  const underlay = new InProcessNetwork().attach(memory, { address: ipv4(A), port: 4789 });
  const engine = new Engine({ memory, device, underlay, flows, isFirst, now: () => 1000, random: seededRandom(1) });
  engine.apply(diffTables(new Map(), BEFORE));
  const carry = (fields: Fields): string[] => {
    device.inject(ipPacket(fields));
    engine.step(Side.All);
    return device.takeWritten().map(({ bytes }) => brief(describe(bytes)));
  };
  return { engine, carry };
}

const REQUEST: Fields = { source: CLIENT, destination: NEW_TASK, flags: SYN };
const REPLY: Fields = {
  ...{ source: NEW_TASK, destination: CLIENT, flags: SYN | ACK },
  ...{ sourcePort: 80, destinationPort: 40_000 },
};

for (const early of ["first", "second"] as const) {
  test(`a connection to a task that only the ${early} worker knows yet is carried by the other too`, (t) => {
    const buffer = new ArrayBuffer(FlowTable.bytesFor(CAPACITY));
    const first = worker(FlowTable.open(buffer, CAPACITY, 1), true);
    const second = worker(FlowTable.join(buffer, CAPACITY), false);
    const [knows, other] = early === "first" ? [first, second] : [second, first];
    knows.engine.apply(diffTables(BEFORE, AFTER));
    t.deepEqual(knows.carry(REQUEST), [`${CLIENT}:40000 > ${NEW_TASK}:80`]);
    other.engine.tick();
    t.deepEqual(other.carry(REPLY), [`${NEW_TASK}:80 > ${CLIENT}:40000`]);
    t.deepEqual([other.engine.report().ownPackets.resetsSent, other.engine.report().flows], [0, 1], "and not reset");
    other.engine.apply(diffTables(BEFORE, AFTER));
    t.deepEqual(other.carry({ ...REPLY, flags: ACK }), [`${NEW_TASK}:80 > ${CLIENT}:40000`]);
    for (const { engine } of [first, second]) engine.apply(diffTables(AFTER, BEFORE));
    t.is(first.engine.report().flows, 0, "gone from both");
  });
}
