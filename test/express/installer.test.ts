// Entries of the flow table in the lane of the real kernel: what the programs make of packets then, what is read back, and what is
// left of flows that went meanwhile.
import { execFileSync } from "node:child_process";
import { fileURLToPath } from "node:url";
import test, { type ExecutionContext } from "ava";
import { ExpressCounts } from "../../src/datapath/express-counts.ts";
import { Ride } from "../../src/datapath/express-marks.ts";
import { Origin } from "../../src/express/layout.ts";
import { ExpressScan } from "../../src/express/scan.ts";
import { machineMonotonic } from "../../src/lib/clock.ts";
import { formatIpv4, ipv4 } from "../../src/lib/ip.ts";
import { Tcx } from "../../src/linux/bpf-abi.ts";
import { ifindexOf } from "../../src/linux/interfaces.ts";
import { RouteQuery } from "../../src/linux/route-query.ts";
import { PacketMemory } from "../../src/packet/memory.ts";
import { ACK, type Fields, ipPacket, PSH } from "../fakes/ip-packets.ts";
import { bpfTest, useRig } from "./bpf-test.ts";
import { LaneFlows } from "./lane-flows.ts";
import {
  CLIENT_PORT,
  ethernet,
  expectedFrame,
  HOST_MAC,
  LaneRig,
  LOCAL,
  LOCAL_TOO,
  PEER,
  REMOTE,
  SERVER_PORT,
  VIP,
  vxlan,
} from "./lane-rig.ts";

const ENTRIES = 4;
const BODY = new Uint8Array(100).fill(5);
const REQUEST: Fields = {
  ...{ source: LOCAL, destination: VIP, sourcePort: CLIENT_PORT, destinationPort: SERVER_PORT, payload: BODY },
  ...{ flags: ACK | PSH, sequence: 1000, acknowledgment: 2000 },
};
const ANSWER: Fields = {
  ...{ source: REMOTE, destination: LOCAL, sourcePort: SERVER_PORT, destinationPort: CLIENT_PORT, payload: BODY },
  ...{ flags: ACK, sequence: 2000, acknowledgment: 1100 },
};

function lane(t: ExecutionContext): { rig: LaneRig; flows: LaneFlows } {
  const rig = useRig(t);
  const flows = new LaneFlows(rig);
  t.teardown(() => flows.installer.close());
  return { rig, flows };
}

bpfTest("a flow by a VIP to another node: both directions are carried as the flow table has them", (t) => {
  const { rig, flows } = lane(t);
  const entry = flows.add();
  flows.enter(entry);
  flows.enter(entry + 1);
  t.deepEqual(rig.run(Origin.Container, ethernet(ipPacket(REQUEST))).reasons, ["NoEntry"], "before it is flushed");
  flows.installer.flush();
  const out = rig.run(Origin.Container, ethernet(ipPacket(REQUEST)));
  t.deepEqual([out.reasons, out.verdict], [[], Tcx.Redirect]);
  t.deepEqual(out.frame, expectedFrame(ipPacket({ ...REQUEST, destination: REMOTE })));
  const back = rig.run(Origin.Underlay, vxlan(ipPacket(ANSWER)));
  t.deepEqual([back.reasons, back.verdict], [[], Tcx.Redirect]);
  const macs = { destinationMac: "02:42:0a:c0:20:0a", sourceMac: HOST_MAC };
  t.deepEqual(back.frame, ethernet(ipPacket({ ...ANSWER, source: VIP }), macs));
});

bpfTest("a flow of one node", (t) => {
  const { rig, flows } = lane(t);
  const entry = flows.add({ address: LOCAL_TOO, server: LOCAL_TOO, to: "", protocol: 17 });
  flows.enter(entry);
  flows.installer.flush();
  const packet = ipPacket({ ...REQUEST, destination: LOCAL_TOO, protocol: "udp" });
  const out = rig.run(Origin.Container, ethernet(packet));
  t.deepEqual(out.frame, ethernet(packet, { destinationMac: "02:42:0a:c0:20:0b", sourceMac: HOST_MAC }));
});

bpfTest("what an entry has counted is read, and goes on where it stopped when it enters again", (t) => {
  const { rig, flows } = lane(t);
  const entry = flows.add();
  t.false(flows.read(entry));
  flows.enter(entry);
  flows.installer.flush();
  for (let i = 0; i < 3; i++) rig.run(Origin.Container, ethernet(ipPacket({ ...REQUEST, sequence: 1000 + 100 * i })));
  t.true(flows.read(entry));
  const { packets, bytes, nextSequence, acknowledgment, seenSeconds } = flows.reading;
  t.deepEqual([packets, bytes, nextSequence, acknowledgment], [3, 3 * 140, 1300, 2000]);
  t.true(Math.abs(seenSeconds - machineMonotonic() / 1000) < 60, "on the flows' clock");
  t.true(flows.take(entry));
  t.false(flows.take(entry), "it is out");
  t.deepEqual(rig.run(Origin.Container, ethernet(ipPacket(REQUEST))).reasons, ["NoEntry"]);
  flows.table.takeCarried(entry, 3, 3 * 140);
  flows.enter(entry);
  flows.installer.flush();
  rig.run(Origin.Container, ethernet(ipPacket(REQUEST)));
  flows.read(entry);
  t.deepEqual([flows.reading.packets, flows.reading.bytes], [4, 4 * 140]);
});

for (const address of [LOCAL, REMOTE, VIP, PEER, "everything"]) {
  bpfTest(`${address} is lost: the entry carries nothing until it is written anew`, (t) => {
    const { rig, flows } = lane(t);
    const entry = flows.add();
    const before = flows.groundSum(entry);
    flows.enter(entry);
    flows.installer.flush();
    t.deepEqual(rig.run(Origin.Container, ethernet(ipPacket(REQUEST))).reasons, []);
    if (address === "everything") flows.installer.loseAll();
    else flows.installer.lose(ipv4(address));
    t.not(flows.groundSum(entry), before);
    t.deepEqual(rig.run(Origin.Container, ethernet(ipPacket(REQUEST))).reasons, ["LostGround"]);
    flows.enter(entry, before);
    flows.installer.flush();
    const late = rig.run(Origin.Container, ethernet(ipPacket(REQUEST)));
    t.deepEqual(late.reasons, ["LostGround"], "it is written with the sum that the flow was judged with");
    flows.enter(entry);
    flows.installer.flush();
    t.deepEqual(rig.run(Origin.Container, ethernet(ipPacket(REQUEST))).reasons, []);
  });
}

bpfTest("another address that is lost leaves the entry as it is", (t) => {
  const { rig, flows } = lane(t);
  flows.enter(flows.add());
  flows.installer.flush();
  flows.installer.lose(ipv4("10.192.40.40"));
  flows.installer.lose(0);
  t.deepEqual(rig.run(Origin.Container, ethernet(ipPacket(REQUEST))).reasons, []);
});

bpfTest("a flow that went before its entry was written leaves none, nor does one whose mark was taken away", (t) => {
  const { rig, flows } = lane(t);
  const [gone, unmarked, stays] = [40_001, 40_002, 40_003].map((clientPort) => flows.add({ clientPort }));
  for (const entry of [gone!, unmarked!, stays!]) flows.enter(entry);
  flows.table.remove(gone!, flows.table.versionOf(gone!));
  flows.table.removeRide(unmarked!, Ride.Both);
  flows.installer.flush();
  const reasons = [40_001, 40_002, 40_003].map(
    (sourcePort) => rig.run(Origin.Container, ethernet(ipPacket({ ...REQUEST, sourcePort }))).reasons,
  );
  t.deepEqual(reasons, [["NoEntry"], ["NoEntry"], []]);
});

bpfTest("a reading of a flow that went meanwhile is none, and takes nothing out", (t) => {
  const { flows } = lane(t);
  const entry = flows.add();
  const version = flows.table.versionOf(entry);
  flows.enter(entry);
  flows.installer.flush();
  flows.table.remove(entry, version);
  t.false(flows.installer.read(entry, version, flows.reading));
  t.false(flows.installer.take(entry, version, flows.reading));
});

bpfTest("a full map: what found no room is counted, and stays with the agent", (t) => {
  const rig = new LaneRig(ENTRIES);
  t.teardown(() => rig.close());
  const flows = new LaneFlows(rig, ENTRIES);
  t.teardown(() => flows.installer.close());
  const ports = Array.from({ length: 40 }, (_, i) => 41_000 + i);
  const entries = ports.map((clientPort) => flows.add({ clientPort }));
  for (const entry of entries) flows.enter(entry);
  flows.installer.flush();
  t.true(flows.installer.refused > 0);
  const carried = ports.filter(
    (sourcePort) => rig.run(Origin.Container, ethernet(ipPacket({ ...REQUEST, sourcePort }))).reasons.length === 0,
  );
  t.is(carried.length, ports.length - flows.installer.refused);
  const marked = entries.filter((entry) => flows.isMarked(entry));
  t.is(marked.length, carried.length, "the marks of those in the lane, and of no others, say that they are");
});

bpfTest("an entry that would go by no link is not in the lane, and its mark says so", (t) => {
  const { rig, flows } = lane(t);
  flows.links = { toContainer: 1, toPeer: 0, toClient: 0 };
  const entry = flows.add();
  t.false(flows.enter(entry));
  flows.links = { toContainer: 0, toPeer: 1, toClient: 0 };
  const other = flows.add({ clientPort: 40_001 });
  t.false(flows.enter(other));
  flows.installer.flush();
  t.is(rig.size, 0);
  for (const each of [entry, other]) t.deepEqual([flows.isMarked(each), flows.isRefused(each)], [false, true]);
});

bpfTest("more entries than one call takes", (t) => {
  const rig = new LaneRig(1024);
  t.teardown(() => rig.close());
  const flows = new LaneFlows(rig, 1024);
  t.teardown(() => flows.installer.close());
  const entries = Array.from({ length: 300 }, (_, i) => flows.add({ clientPort: 41_000 + i }));
  for (const entry of entries) flows.enter(entry);
  flows.installer.flush();
  t.true(entries.every((entry) => flows.read(entry)));
});

bpfTest("the walk takes over what was counted, and takes out what no flow bears out", (t) => {
  const { rig, flows } = lane(t);
  const seen: [from: string, to: string, packets: number, bytes: number][] = [];
  const counts = new ExpressCounts(flows.table, (from, to, packets, bytes) =>
    seen.push([formatIpv4(from), formatIpv4(to), packets, bytes]),
  );
  const memory = new PacketMemory(ExpressScan.memoryBytes);
  const scan = new ExpressScan({ memory, flows: flows.table, counts, map: rig.maps.flows, capacity: 64 });
  const [kept, removed, unmarked, other] = [40_000, 40_001, 40_002, 40_003].map((clientPort) =>
    flows.add({ clientPort }),
  );
  for (const entry of [kept!, removed!, unmarked!, other!, kept! + 1]) flows.enter(entry);
  flows.installer.flush();
  rig.run(Origin.Container, ethernet(ipPacket(REQUEST)));
  rig.run(Origin.Underlay, vxlan(ipPacket(ANSWER)));
  flows.table.remove(removed!, flows.table.versionOf(removed!));
  flows.table.removeRide(unmarked!, Ride.Both);
  // Another flow in the place of one, with the same client and VIP and another server.
  flows.table.remove(other!, flows.table.versionOf(other!));
  const again = flows.add({ clientPort: 40_003, server: "10.192.32.21" });
  flows.table.addRide(again, Ride.Original);
  while (scan.step());
  t.deepEqual([scan.entries, rig.size], [2, 2]);
  t.deepEqual(seen.sort(), [
    ["0.0.0.0", PEER, 1, 140],
    [PEER, "0.0.0.0", 1, 140],
  ]);
  t.deepEqual([flows.table.packetsOf(kept!), flows.table.bytesOf(kept! + 1)], [1, 140]);
  t.deepEqual([flows.table.nextSequenceOf(kept!), flows.table.acknowledgedOf(kept!)], [1100, 1100]);
  t.true(flows.table.lastSeenOf(kept!) > 0);
  while (scan.step());
  t.is(seen.length, 2, "once");
});

bpfTest("a walk looks up no flow that has carried nothing since the last one, but each eighth does", (t) => {
  const { rig, flows } = lane(t);
  const counts = new ExpressCounts(flows.table, () => {});
  const looked: number[] = [];
  let ahead = 0;
  const scan = new ExpressScan({
    ...{ flows: flows.table, counts, map: rig.maps.flows, capacity: 64 },
    memory: new PacketMemory(ExpressScan.memoryBytes),
    nanoseconds: () => Number(process.hrtime.bigint()) + ahead,
    onEntry: (entry) => looked.push(entry),
  });
  const walk = (): number[] => {
    looked.length = 0;
    while (scan.step());
    return [...looked].sort();
  };
  const [busy, idle, unmarked] = [40_000, 40_001, 40_002].map((clientPort) => flows.add({ clientPort }));
  for (const entry of [busy!, idle!, unmarked!]) flows.enter(entry);
  flows.installer.flush();
  const all = [busy!, idle!, unmarked!];
  t.deepEqual(walk(), all, "the first one looks at all");
  flows.table.removeRide(unmarked!, Ride.Both);
  const carry = () => rig.run(Origin.Container, ethernet(ipPacket(REQUEST)));
  for (let i = 2; i <= 8; i++) {
    carry();
    t.deepEqual([walk(), scan.entries, rig.size], [[busy!], 3, 3]);
    t.is(flows.table.carriedPacketsOf(busy!), i - 1);
  }
  t.deepEqual([walk(), scan.entries, rig.size], [[busy!, idle!], 2, 2], "and takes out what no flow bears out");
  ahead = 1e9;
  t.deepEqual(walk(), [busy!], "what it has taken over already may have come after it began");
  t.deepEqual(walk(), []);
  scan.lookAtAll();
  t.deepEqual(walk(), [busy!, idle!]);
});

test("the kernel says by which link an address is reached", (t) => {
  const routes = new RouteQuery(new PacketMemory(1 << 16));
  t.teardown(() => routes.close());
  for (let i = 0; i < 3; i++) t.is(routes.linkTo(ipv4("127.0.0.1")), ifindexOf("lo")!);
});

bpfTest("entries that enter, are read and are taken out leave no garbage", (t) => {
  const script = fileURLToPath(new URL("installer-garbage.js", import.meta.url));
  const flags = ["--expose-gc", "--min-semi-space-size=64", "--max-semi-space-size=64"];
  const bytes = Number(execFileSync(process.execPath, [...flags, script], { encoding: "utf8" }));
  t.true(bytes < 16, `${bytes} bytes an entry`);
});
