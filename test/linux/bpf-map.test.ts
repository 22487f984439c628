// Maps in the real kernel: each call, a full map, batches, an array that is mapped, worker threads, and no garbage.
import { execFileSync } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";
import { Worker } from "node:worker_threads";
import type { ExecutionContext } from "ava";
import { Helper } from "../../src/linux/bpf-abi.ts";
import { mapArray } from "../../src/linux/bpf-array.ts";
import { BpfAssembler, r0, r1, r2, r3, r4, r10 } from "../../src/linux/bpf-assembler.ts";
import { BpfMap, createMap, type MapShape } from "../../src/linux/bpf-map.ts";
import { loadProgram, ProgramType, runProgram } from "../../src/linux/bpf-program.ts";
import * as libc from "../../src/linux/libc.ts";
import { PacketMemory } from "../../src/packet/memory.ts";
import { bpfTest } from "../fakes/bpf-test.ts";

const HASH: MapShape = { type: "hash", keyBytes: 20, valueBytes: 120, entries: 100, name: "tried" };
const COUNTERS: MapShape = {
  type: "array",
  keyBytes: 4,
  valueBytes: 4,
  entries: 1000,
  name: "counters",
  mmapable: true,
};

interface Opened {
  map: BpfMap;
  memory: PacketMemory;
}

function open(t: ExecutionContext, shape: Partial<MapShape> = {}, capacity = 256): Opened {
  const memory = new PacketMemory(1 << 20);
  const whole = { ...HASH, ...shape };
  const map = new BpfMap(memory, createMap(whole), whole, capacity);
  t.teardown(() => libc.close(map.fd));
  return { map, memory };
}

/** Writes an entry's key and value, which follow from `i`, to these offsets. */
function put({ map, memory }: Opened, i: number, key = map.key, value = map.value): void {
  memory.u8.fill(0, key, key + map.shape.keyBytes);
  memory.view.setInt32(key, i, true);
  memory.u8.fill(i & 0xff, value, value + map.shape.valueBytes);
  memory.view.setInt32(value, i, true);
}

function putBatch(opened: Opened, count: number, from = 0): void {
  const { keys, values, shape } = opened.map;
  for (let i = 0; i < count; i++) put(opened, from + i, keys + i * shape.keyBytes, values + i * shape.valueBytes);
}

/** Numbers of the entries that `next` finds, checked against their values. */
function found(t: ExecutionContext, { map, memory }: Opened): number[] {
  const numbers: number[] = [];
  map.rewind();
  for (let count = map.lookupBatch(); count > 0; count = map.lookupBatch()) {
    for (let i = 0; i < count; i++) {
      const number = memory.view.getInt32(map.keys + i * map.shape.keyBytes, true);
      const value = map.values + i * map.shape.valueBytes;
      t.is(memory.view.getInt32(value, true), number);
      t.is(memory.u8[value + map.shape.valueBytes - 1], number & 0xff);
      numbers.push(number);
    }
  }
  return numbers.sort((a, b) => a - b);
}

const range = (from: number, to: number): number[] => Array.from({ length: to - from }, (_, i) => from + i);

bpfTest("an entry is written, read, replaced and removed", (t) => {
  const opened = open(t);
  const { map, memory } = opened;
  put(opened, 7);
  t.false(map.lookup());
  t.false(map.delete());
  t.true(map.update());
  memory.u8.fill(0, map.value, map.value + HASH.valueBytes);
  t.true(map.lookup());
  t.is(memory.view.getInt32(map.value, true), 7);
  t.is(memory.u8[map.value + HASH.valueBytes - 1], 7);
  memory.view.setInt32(map.value, 8, true);
  t.true(map.update());
  memory.view.setInt32(map.value, 0, true);
  t.true(map.lookupAndDelete());
  t.is(memory.view.getInt32(map.value, true), 8);
  t.false(map.lookupAndDelete());
  t.true(map.update());
  t.true(map.delete());
  t.false(map.lookup());
});

bpfTest("a full map takes no new entry, and keeps those that it has", (t) => {
  const opened = open(t, { entries: 10 });
  for (const i of range(0, 10)) {
    put(opened, i);
    t.true(opened.map.update());
  }
  put(opened, 10);
  t.false(opened.map.update());
  put(opened, 3);
  t.true(opened.map.update(), "an entry that is there is replaced");
  t.deepEqual(found(t, opened), range(0, 10));
  t.true(opened.map.delete());
  put(opened, 10);
  t.true(opened.map.update());
});

bpfTest("a batch writes what the map has room for, and says how much", (t) => {
  const opened = open(t);
  const { map } = opened;
  putBatch(opened, 60);
  t.is(map.updateBatch(60), 60);
  putBatch(opened, 60, 40); // 20 of them are there, and 40 more have room
  t.is(map.updateBatch(60), 60);
  putBatch(opened, 8, 96);
  t.is(map.updateBatch(8), 4);
  t.deepEqual(found(t, opened), range(0, 100));
  putBatch(opened, 4, 96);
  t.is(map.updateBatch(2, 2), 2, "a batch goes on from the middle");
});

bpfTest("all entries are read batch by batch, once each, and again after rewind()", (t) => {
  const opened = open(t, { entries: 10_000 }, 64);
  const { map } = opened;
  for (let i = 0; i < 10_000; i += 50) {
    putBatch(opened, 50, i);
    t.is(map.updateBatch(50), 50);
  }
  t.deepEqual(found(t, opened), range(0, 10_000));
  t.is(map.lookupBatch(), 0);
  t.deepEqual(found(t, opened), range(0, 10_000));
});

bpfTest("more entries than a batch has are refused before the kernel sees them", (t) => {
  const { map } = open(t, {}, 16);
  const message = "17 entries, where the batches of tried have 16";
  t.throws(() => map.updateBatch(17), { name: "RangeError", message });
  t.throws(() => map.updateBatch(8, 9), { name: "RangeError", message });
  t.throws(() => open(t, {}, 0).map.lookupBatch(), {
    name: "RangeError",
    message: "the batches of tried have no entries",
  });
});

bpfTest("a failing call says which one it is and on which map", (t) => {
  const { map } = open(t);
  const bad = new BpfMap(new PacketMemory(1 << 16), 1_000_000, HASH, 4);
  const calls: [string, (map: BpfMap) => unknown][] = [
    ["BPF_MAP_UPDATE_ELEM", (m) => m.update()],
    ["BPF_MAP_LOOKUP_ELEM", (m) => m.lookup()],
    ["BPF_MAP_DELETE_ELEM", (m) => m.delete()],
    ["BPF_MAP_LOOKUP_AND_DELETE_ELEM", (m) => m.lookupAndDelete()],
    ["BPF_MAP_UPDATE_BATCH", (m) => m.updateBatch(1)],
    ["BPF_MAP_LOOKUP_BATCH", (m) => m.lookupBatch()],
  ];
  for (const [name, call] of calls) {
    const error = t.throws(() => call(bad), { instanceOf: libc.SyscallError });
    t.is(error.code, "EBADF");
    t.is(error.syscall, `bpf: ${name} of the map tried`);
    t.notThrows(() => call(map), "the same call on a map that is there");
  }
  t.throws(() => createMap({ ...HASH, entries: 0 }), { message: /^bpf: BPF_MAP_CREATE of the map tried: .*EINVAL/ });
});

/** Counts up the counter with the index `i` of an array, as a packet passes. */
function countingProgram(fd: number, i: number): number {
  const program = new BpfAssembler();
  program.store(4, r10, -4, i).map(r1, fd).mov(r2, r10).alu("add", r2, -4).call(Helper.MapLookup);
  program.when(r0, "eq", 0, "none");
  program.mov(r3, 1).atomicAdd(4, r0, 0, r3).load(4, r0, r0, 0).exit();
  program.label("none").exit(-1);
  return loadProgram({ type: ProgramType.SchedCls, name: "count", code: program.assemble() });
}

bpfTest("an array that is mapped is what programs read and write", (t) => {
  const fd = createMap(COUNTERS);
  const mapped = mapArray(fd, COUNTERS);
  const again = mapArray(fd, COUNTERS);
  const counters = new Int32Array(mapped.buffer);
  const each = mapped.stride / 4;
  const program = countingProgram(fd, 999);
  t.is(mapped.stride, 8);
  t.is(counters.length, 2000);
  t.is(runProgram(program, new Uint8Array(14)).verdict, 1);
  t.is(counters[999 * each], 1);
  Atomics.add(counters, 999 * each, 40);
  t.is(runProgram(program, new Uint8Array(14)).verdict, 42);
  t.is(new Int32Array(again.buffer)[999 * each], 42);
  for (const one of [mapped, again]) one.close();
  for (const one of [fd, program]) libc.close(one);
});

bpfTest("a program reads a byte range of the only value of an array without a look-up", (t) => {
  const shape: MapShape = { type: "array", keyBytes: 4, valueBytes: 64, entries: 1, name: "control", mmapable: true };
  const fd = createMap(shape);
  const mapped = mapArray(fd, shape);
  new Int32Array(mapped.buffer)[3] = 1234;
  const program = new BpfAssembler().mapValue(r4, fd, 8).load(4, r0, r4, 4).exit();
  const loaded = loadProgram({ type: ProgramType.SchedCls, name: "control", code: program.assemble() });
  t.is(runProgram(loaded, new Uint8Array(14)).verdict, 1234);
  mapped.close();
  for (const one of [fd, loaded]) libc.close(one);
});

bpfTest("an array that is not mmapable is not mapped, and the message says which it was", (t) => {
  const shape = { ...COUNTERS, mmapable: false };
  const fd = createMap(shape);
  t.throws(() => mapArray(fd, shape), { message: /^mmap of the map counters: / });
  libc.close(fd);
});

bpfTest("worker threads use a map and a mapped array by their descriptors", async (t) => {
  const opened = open(t, { entries: 2000 });
  const counters = createMap(COUNTERS);
  t.teardown(() => libc.close(counters));
  const shapes = { entries: opened.map.shape, counters: COUNTERS };
  const workers = [0, 1].map((first) => {
    const workerData = { fds: { entries: opened.map.fd, counters }, shapes, first, entries: 1000, times: 100_000 };
    return new Worker(new URL("bpf-worker.js", import.meta.url), { workerData });
  });
  await Promise.all(workers.map((worker) => once(worker, "exit")));
  t.deepEqual(found(t, opened), range(0, 2000));
  const mapped = mapArray(counters, COUNTERS);
  t.is(new Int32Array(mapped.buffer)[0], 200_000);
  mapped.close();
});

bpfTest("calls on a map make no garbage", (t) => {
  const script = fileURLToPath(new URL("bpf-garbage.js", import.meta.url));
  const flags = ["--expose-gc", "--min-semi-space-size=64", "--max-semi-space-size=64"];
  const bytes = Number(execFileSync(process.execPath, [...flags, script], { encoding: "utf8" }));
  t.true(bytes < 1, `${bytes} bytes a call`);
});
