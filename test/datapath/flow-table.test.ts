// The flow table by rows: versions, states, eviction, counters, and what is refused.
import { readFileSync } from "node:fs";
import test from "ava";
import { Ride } from "../../src/datapath/express-marks.ts";
import { FlowState } from "../../src/datapath/flow-entries.ts";
import { FlowTable } from "../../src/datapath/flow-table.ts";
import { findOriginal, findReply, flowKeys, insert, isWhole, liveEntries, reserve } from "../fakes/flows.ts";

const SEED = 7;

function tableOf(capacity: number): FlowTable {
  return FlowTable.open(new ArrayBuffer(FlowTable.bytesFor(capacity)), capacity, SEED);
}

test("a flow is found by both its keys, and by no other", (t) => {
  const table = tableOf(4);
  const keys = flowKeys(1);
  const entry = insert(table, keys);
  t.is(findOriginal(table, keys), entry);
  t.is(findReply(table, keys), entry + 1);
  t.true(isWhole(table, entry, keys));
  t.is(table.size, 1);
  for (const changed of ["zone", "protocol", "source", "destination", "ports"] as const) {
    t.is(findOriginal(table, { ...keys, [changed]: keys[changed] ^ 1 }), -1, changed);
  }
});

test("addresses, ports and VNIs with the highest bit set are kept as they are", (t) => {
  const table = tableOf(4);
  const entry = reserve(table, [0xffffff, 255, -1, -2, -3], [0x800000, -4, -5, -6]);
  table.publish(entry, FlowState.Unreplied);
  t.is(table.find(0xffffff, 255, -1, -2, -3), entry);
  t.is(table.find(0x800000, 255, -4, -5, -6), entry + 1);
  t.is(table.zoneOf(entry), 0xffffff);
  t.is(table.zoneOf(entry + 1), 0x800000);
  t.is(table.protocolOf(entry), 255);
});

test("a reserved flow is not found until it is published", (t) => {
  const table = tableOf(4);
  const { zone, protocol, source, destination, ports } = flowKeys(1);
  const entry = reserve(table, [zone, protocol, source, destination, ports], [0, 1, 2, 3]);
  t.is(findOriginal(table, flowKeys(1)), -1);
  table.publish(entry, FlowState.Unreplied);
  t.is(findOriginal(table, flowKeys(1)), entry);
});

test("a full table takes no more until a flow is removed", (t) => {
  const table = tableOf(3);
  const entries = [1, 2, 3].map((number) => insert(table, flowKeys(number)));
  t.is(insert(table, flowKeys(4)), -1);
  table.removeLocked(entries[1]! + 1);
  t.is(findOriginal(table, flowKeys(2)), -1);
  t.is(findReply(table, flowKeys(2)), -1);
  t.is(insert(table, flowKeys(4)), entries[1]!);
  t.is(table.size, 3);
});

test("the oldest unreplied flow is the one to evict", (t) => {
  const table = tableOf(8);
  t.is(table.firstToGo(0), -1);
  const [first, second, third] = [1, 2, 3].map((number) => insert(table, flowKeys(number)));
  insert(table, flowKeys(4), FlowState.Established);
  t.is(table.firstToGo(0), first!);
  table.changeState(first! + 1, table.versionOf(first!), FlowState.Replied, 120);
  t.is(table.firstToGo(0), second!);
  table.removeLocked(second!);
  t.is(table.firstToGo(0), third!);
  table.removeLocked(third!);
  t.is(table.firstToGo(0), -1);
});

test("a change of state that is not a reply's leaves the flow to be evicted", (t) => {
  const table = tableOf(8);
  const entry = insert(table, flowKeys(1), FlowState.SynSent);
  table.changeState(entry, table.versionOf(entry), FlowState.Closed, 10);
  t.is(table.stateOf(entry), FlowState.Closed);
  t.is(table.timeoutOf(entry), 10);
  t.is(table.firstToGo(0), entry);
});

test("a flow that was removed is not current, and nobody's removal takes its successor", (t) => {
  const table = tableOf(1);
  const entry = insert(table, flowKeys(1));
  t.is(findOriginal(table, flowKeys(1)), entry);
  const version = table.foundVersion;
  t.true(table.isCurrent(entry, version));
  table.remove(entry, version);
  t.false(table.isCurrent(entry, version));
  t.is(insert(table, flowKeys(2)), entry);
  table.remove(entry, version);
  t.is(findOriginal(table, flowKeys(2)), entry);
});

test("a flow that was found while it was removed is not current once another is written in its place", (t) => {
  const table = tableOf(1);
  const entry = insert(table, flowKeys(1));
  table.removeLocked(entry);
  const version = table.versionOf(entry); // what a find() has that came between the removal's steps
  const { zone, protocol, source, destination, ports } = flowKeys(2);
  reserve(table, [zone, protocol, source, destination, ports], [0, 1, 2, 3]); // and is not published yet
  t.false(table.isCurrent(entry, version));
});

test("a removed flow does not come back to life by a change of its state", (t) => {
  const table = tableOf(2);
  const entry = insert(table, flowKeys(1));
  const live = table.versionOf(entry);
  table.removeLocked(entry);
  for (const version of [live, table.versionOf(entry)]) {
    table.changeState(entry + 1, version, FlowState.Replied, 120);
    t.is(table.stateOf(entry), FlowState.Free);
  }
  t.deepEqual(liveEntries(table), []);
  insert(table, flowKeys(2));
  table.changeState(entry + 1, live, FlowState.Closed, 10);
  t.is(table.stateOf(entry), FlowState.Unreplied, "the next flow in its place keeps its state");
});

test("a flow that is removed twice is removed once", (t) => {
  const table = tableOf(2);
  const entry = insert(table, flowKeys(1));
  insert(table, flowKeys(2));
  table.removeLocked(entry);
  table.removeLocked(entry);
  t.is(table.size, 1);
  t.is(insert(table, flowKeys(3)), entry);
  t.is(insert(table, flowKeys(4)), -1);
});

test("packets and bytes are counted each way, beyond 32 bits", (t) => {
  const table = tableOf(2);
  const entry = insert(table, flowKeys(1));
  table.count(entry, 1, 100, 5);
  table.count(entry + 1, 2, 65_535, 6);
  t.is(table.packetsOf(entry), 1);
  t.is(table.bytesOf(entry), 100);
  t.is(table.packetsOf(entry + 1), 2);
  t.is(table.lastSeenOf(entry), 6);
  let expected = 65_535;
  for (let i = 0; i < 200_000; i++) {
    table.count(entry + 1, 1, 65_535, 7);
    expected += 65_535;
  }
  t.is(table.bytesOf(entry + 1), expected);
  t.true(expected > 2 ** 33);
  t.is(table.packetsOf(entry + 1), 200_002);
});

test("a new flow has nothing of the one that was in its place", (t) => {
  const table = tableOf(1);
  const entry = insert(table, flowKeys(1));
  table.count(entry, 1, 100, 5);
  table.setEpoch(entry, 9);
  table.setNextSequence(entry, 77);
  table.setCreated(entry, 4);
  table.removeLocked(entry);
  const { zone, protocol, source, destination, ports } = flowKeys(2);
  reserve(table, [zone, protocol, source, destination, ports], [0, 1, 2, 3]);
  table.publish(entry, FlowState.Unreplied);
  const words = [table.packetsOf(entry), table.bytesOf(entry), table.epochOf(entry), table.nextSequenceOf(entry)];
  t.deepEqual([...words, table.createdOf(entry), table.vipOf(entry), table.lastSeenOf(entry)], [0, 0, 0, 0, 0, 0, 0]);
});

test("what the express lane has carried is counted with the rest, beyond 32 bits, and an older reading changes nothing", (t) => {
  const table = tableOf(1);
  const entry = insert(table, flowKeys(1));
  table.count(entry + 1, 1, 100, 5);
  let carried = 0;
  for (const bytes of [1000, 2 ** 31, 2 ** 33 + 7, 2 ** 40]) {
    table.takeCarried(entry + 1, ++carried, bytes);
    t.deepEqual([table.packetsOf(entry + 1), table.bytesOf(entry + 1)], [1 + carried, 100 + bytes]);
  }
  table.takeCarried(entry + 1, 2, 2 ** 31);
  t.deepEqual([table.newPackets, table.newBytes, table.bytesOf(entry + 1)], [0, 0, 100 + 2 ** 40]);
  t.deepEqual([table.packetsOf(entry), table.bytesOf(entry)], [0, 0], "each direction has its own");
  table.takeCarried(entry, 3, 2 ** 34);
  t.deepEqual([table.bytesOf(entry), table.bytesOf(entry + 1)], [2 ** 34, 100 + 2 ** 40]);
  table.takeCarried(entry, 4, 2 ** 48 + 5);
  t.is(table.newBytes, 2 ** 48 + 5 - 2 ** 34);
});

test("marks of the express lane outlive the agent, and the flow's end takes them along", (t) => {
  const buffer = new ArrayBuffer(FlowTable.bytesFor(1));
  const before = FlowTable.open(buffer, 1, SEED);
  const entry = insert(before, flowKeys(1), FlowState.Established);
  t.is(before.rideOf(entry), Ride.None, "nothing in a flow that a version without the lane has written");
  before.admit(entry, 77);
  before.addRide(entry, Ride.Reply);
  before.takeCarried(entry + 1, 5, 2 ** 40);
  const table = FlowTable.open(buffer, 1, SEED);
  t.deepEqual([table.rideOf(entry + 1), table.groundSumOf(entry)], [Ride.Reply | Ride.Judged, 77]);
  t.true(table.isRiding(entry + 1, table.versionOf(entry)));
  const removed: number[] = [];
  table.onRiderRemoved = (original) => removed.push(original);
  table.removeLocked(entry + 1);
  t.deepEqual(removed, [entry]);
  t.is(insert(table, flowKeys(2)), entry);
  t.deepEqual([table.rideOf(entry), table.carriedPacketsOf(entry + 1), table.carriedBytesOf(entry + 1)], [0, 0, 0]);
});

test("a lane that begins anew has none of the flows that were in the one before; what was carried stays counted", (t) => {
  const table = tableOf(2);
  const entries = [
    insert(table, flowKeys(1), FlowState.Established),
    insert(table, flowKeys(2), FlowState.Established),
  ];
  for (const entry of entries) {
    table.bar(entry, 77);
    table.addRide(entry, Ride.Both | Ride.Heard);
    table.takeCarried(entry + 1, 5, 2 ** 40);
  }
  table.clearRides(table.highWater);
  for (const entry of entries) {
    t.is(table.rideOf(entry), Ride.None);
    t.deepEqual([table.carriedPacketsOf(entry + 1), table.carriedBytesOf(entry + 1)], [5, 2 ** 40]);
  }
});

test("that a flow may ride is judged anew with its grounds; that it may not, with the tables", (t) => {
  const table = tableOf(1);
  const entry = insert(table, flowKeys(1), FlowState.Established);
  t.false(table.isJudged(entry, 77, 5));
  table.admit(entry, 77);
  t.deepEqual([table.isJudged(entry, 77, 6), table.isJudged(entry + 1, 78, 5)], [true, false]);
  table.bar(entry, 5);
  t.deepEqual([table.isJudged(entry, 78, 5), table.isJudged(entry + 1, 5, 6)], [true, false]);
  table.forgetBarred(table.highWater);
  t.false(table.isJudged(entry, 78, 5));
  table.admit(entry, 77);
  table.addRide(entry, Ride.Both);
  table.forgetBarred(table.highWater);
  t.deepEqual([table.isJudged(entry, 77, 5), table.rideOf(entry)], [true, Ride.Both | Ride.Judged]);
});

test("a table that is joined is the same table", (t) => {
  const buffer = new ArrayBuffer(FlowTable.bytesFor(4));
  const first = FlowTable.open(buffer, 4, SEED);
  const entry = insert(first, flowKeys(1));
  const second = FlowTable.join(buffer, 4);
  t.is(findOriginal(second, flowKeys(1)), entry);
  second.remove(entry, second.foundVersion);
  t.is(findOriginal(first, flowKeys(1)), -1);
});

test("there is nothing to join in memory that holds no table, or one of another capacity", (t) => {
  const buffer = new ArrayBuffer(FlowTable.bytesFor(8));
  t.throws(() => FlowTable.join(buffer, 8), { instanceOf: RangeError });
  FlowTable.open(buffer, 4, SEED);
  t.throws(() => FlowTable.join(buffer, 8), { instanceOf: RangeError });
});

test("memory that is too small is refused", (t) => {
  const buffer = new ArrayBuffer(FlowTable.bytesFor(4) - 4);
  t.throws(() => FlowTable.open(buffer, 4, SEED), { instanceOf: RangeError });
});

test("the hash depends on the seed, which goes with the memory", (t) => {
  const buffer = new ArrayBuffer(FlowTable.bytesFor(4));
  const table = FlowTable.open(buffer, 4, 1);
  t.not(table.hash(0, 6, 1, 2, 3), tableOf(4).hash(0, 6, 1, 2, 3));
  t.is(FlowTable.open(buffer, 4, 2).hash(0, 6, 1, 2, 3), table.hash(0, 6, 1, 2, 3));
});

test("hashes spread: of 4,096 flows that count up no slot of 8,192 has more than 12", (t) => {
  const table = tableOf(1);
  const slots = new Uint8Array(8192);
  for (let i = 0; i < 4096; i++) {
    const keys = flowKeys(i);
    slots[table.hash(keys.zone, keys.protocol, keys.source, keys.destination, keys.ports) & 8191]!++;
  }
  t.true(Math.max(...slots) <= 12);
});

test("flows of an earlier run of the machine are not taken up: its clock has begun anew", (t) => {
  const buffer = new ArrayBuffer(FlowTable.bytesFor(4));
  const table = FlowTable.open(buffer, 4, SEED, -7);
  table.publish(reserve(table, [0, 6, 1, 2, 3], [0, 2, 1, 4]), FlowState.Established);
  t.is(FlowTable.join(buffer, 4).size, 1);
  t.is(FlowTable.open(buffer, 4, SEED, -7).size, 1);
  t.is(FlowTable.open(buffer, 4, SEED, 8).size, 0);
  t.is(FlowTable.join(buffer, 4).size, 0);
});

test("a flow takes as much memory as the example of a configuration says", (t) => {
  const [, bytes] = /^ *flows:.*; (\d+) bytes of memory each/m.exec(
    readFileSync("configs/overlayd.example.yaml", "utf8"),
  )!;
  for (const flows of [1024, 262_144, 4_194_304]) t.is(Math.round(FlowTable.bytesFor(flows) / flows), Number(bytes));
});
