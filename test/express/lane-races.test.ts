// Workers and the walk that meet at one entry of the lane: what another does between a look at its mark and what follows from that look.
// In the end the entry is in the lane if its mark says so, and what it has carried is counted.
import type { ExecutionContext } from "ava";
import { ExpressCounts } from "../../src/datapath/express-counts.ts";
import { rideBit } from "../../src/datapath/express-marks.ts";
import { Origin } from "../../src/express/layout.ts";
import { ExpressScan } from "../../src/express/scan.ts";
import { ipv4 } from "../../src/lib/ip.ts";
import { PacketMemory } from "../../src/packet/memory.ts";
import { ACK, ipPacket, PSH } from "../fakes/ip-packets.ts";
import { bpfTest, useRig } from "./bpf-test.ts";
import { LaneFlows } from "./lane-flows.ts";
import { CLIENT_PORT, ethernet, type LaneRig, LOCAL, SERVER_PORT, VIP } from "./lane-rig.ts";

const REQUEST = ethernet(
  ipPacket({
    ...{ source: LOCAL, destination: VIP, sourcePort: CLIENT_PORT, destinationPort: SERVER_PORT },
    ...{ flags: ACK | PSH, sequence: 1000, acknowledgment: 2000, payload: new Uint8Array(100) },
  }),
);

interface Setup {
  rig: LaneRig;
  flows: LaneFlows;
  entry: number;
  /** What another worker does. */
  other: { takes(): void; enters(): void };
}

function setUp(t: ExecutionContext): Setup {
  const rig = useRig(t);
  const flows = new LaneFlows(rig);
  const entry = flows.add();
  const worker = flows.anotherWorker();
  t.teardown(() => flows.installer.close());
  t.teardown(() => worker.close());
  const takes = (): void => {
    flows.table.removeRide(entry, rideBit(entry));
    worker.take(entry, flows.table.versionOf(entry), flows.reading);
  };
  const enters = (): void => {
    flows.enter(entry, flows.groundSum(entry), worker);
    worker.flush();
  };
  return { rig, flows, entry, other: { takes, enters } };
}

function isCarried({ rig }: Setup): boolean {
  return rig.run(Origin.Container, REQUEST).reasons.length === 0;
}

bpfTest("another worker takes an entry out before it is written: it is not in the lane", (t) => {
  const setup = setUp(t);
  const { flows, entry, other } = setup;
  flows.enter(entry);
  flows.afterNextLook(() => other.takes());
  flows.installer.flush();
  t.deepEqual([flows.isMarked(entry), isCarried(setup)], [false, false]);
});

bpfTest("another worker takes an entry out and writes it anew before it is written: it is in the lane", (t) => {
  const setup = setUp(t);
  const { flows, entry, other } = setup;
  flows.enter(entry);
  flows.afterNextLook(() => {
    other.takes();
    other.enters();
  });
  flows.installer.flush();
  t.deepEqual([flows.isMarked(entry), isCarried(setup)], [true, true]);
});

bpfTest("another worker writes the entry under a newer judgment: the older one does not stay in its place", (t) => {
  const setup = setUp(t);
  const { flows, entry, other } = setup;
  flows.enter(entry);
  flows.afterNextLook(() => {
    other.takes();
    flows.installer.lose(ipv4(VIP));
    other.enters();
  });
  flows.installer.flush();
  t.deepEqual([flows.isMarked(entry), isCarried(setup)], [false, false], "its next packet writes it anew");
  flows.enter(entry);
  flows.installer.flush();
  t.deepEqual([flows.isMarked(entry), isCarried(setup)], [true, true]);
});

bpfTest("another worker writes the entry anew while it is found unmarked: it stays in the lane", (t) => {
  const setup = setUp(t);
  const { flows, entry, other } = setup;
  flows.enter(entry);
  flows.afterNextLook(() => {
    other.takes();
    flows.afterNextLook(() => other.enters());
  });
  flows.installer.flush();
  t.deepEqual([flows.isMarked(entry), isCarried(setup)], [true, true]);
});

bpfTest("a flow of the same key in another's place: an entry of the older one does not stay in its place", (t) => {
  const setup = setUp(t);
  const { flows, entry } = setup;
  flows.enter(entry);
  let next = -1;
  flows.afterNextLook(() => {
    flows.table.remove(entry, flows.table.versionOf(entry));
    next = flows.add({ server: "10.192.32.21" });
    flows.enter(next);
  });
  flows.installer.flush();
  t.is(flows.isMarked(next), isCarried(setup));
});

function walk({ rig, flows }: Setup): ExpressCounts {
  const counts = new ExpressCounts(flows.table, () => {});
  const memory = new PacketMemory(ExpressScan.memoryBytes);
  const scan = new ExpressScan({ memory, flows: flows.table, counts, map: rig.maps.flows, capacity: 64 });
  while (scan.step());
  return counts;
}

bpfTest("a walk that finds an entry unmarked that is marked a moment later leaves it", (t) => {
  const setup = setUp(t);
  const { flows, entry, other } = setup;
  flows.enter(entry);
  flows.installer.flush();
  flows.table.removeRide(entry, rideBit(entry));
  flows.afterNextLook(() => other.enters());
  walk(setup);
  t.deepEqual([flows.isMarked(entry), isCarried(setup)], [true, true]);
});

bpfTest("a walk that comes before the worker that has unmarked an entry counts what it has carried", (t) => {
  const setup = setUp(t);
  const { flows, entry } = setup;
  flows.enter(entry);
  flows.installer.flush();
  for (let i = 0; i < 3; i++) t.true(isCarried(setup));
  flows.table.removeRide(entry, rideBit(entry));
  const counts = walk(setup);
  t.deepEqual([counts.packets, flows.table.carriedPacketsOf(entry)], [3, 3]);
  t.false(flows.take(entry), "the walk has taken it out");
});

bpfTest(
  "a walk takes out what an earlier flow of the same key has left, and its mark; it counts nothing of it",
  (t) => {
    const setup = setUp(t);
    const { flows, entry } = setup;
    flows.enter(entry);
    flows.installer.flush();
    t.true(isCarried(setup));
    flows.table.remove(entry, flows.table.versionOf(entry));
    const next = flows.add({ server: "10.192.32.21" });
    flows.table.admit(next, 0);
    flows.table.addRide(next, rideBit(next));
    const counts = walk(setup);
    t.deepEqual([counts.packets, flows.isMarked(next), isCarried(setup)], [0, false, false]);
  },
);
