// A worker that writes entries of its own into a map, with every second number, and counts in a mapped array.
import { workerData } from "node:worker_threads";
import { mapArray } from "../../src/linux/bpf-array.ts";
import { BpfMap } from "../../src/linux/bpf-map.ts";
import { PacketMemory } from "../../src/packet/memory.ts";

const { fds, shapes, first, entries, times } = workerData;
const memory = new PacketMemory(1 << 16);
const map = new BpfMap(memory, fds.entries, shapes.entries);
for (let i = 0; i < entries; i++) {
  const number = 2 * i + first;
  memory.view.setInt32(map.key, number, true);
  memory.u8.fill(number & 0xff, map.value, map.value + map.shape.valueBytes);
  memory.view.setInt32(map.value, number, true);
  if (!map.update()) throw new Error(`no room for entry ${number}`);
}
const mapped = mapArray(fds.counters, shapes.counters);
const counters = new Int32Array(mapped.buffer);
for (let i = 0; i < times; i++) Atomics.add(counters, 0, 1);
mapped.close();
