// Writes, reads and removes entries of a map, alone and in batches, and prints how much heap a call costs. Run with
// --expose-gc and a young generation so large that it is not collected meanwhile.
import { BpfMap, createMap, type MapShape } from "../../src/linux/bpf-map.ts";
import * as libc from "../../src/linux/libc.ts";
import { PacketMemory } from "../../src/packet/memory.ts";

const ROUNDS = 40_000;
const CALLS = 9;
const BATCH = 16;
const shape: MapShape = { type: "hash", keyBytes: 20, valueBytes: 120, entries: 64, name: "garbage" };
const memory = new PacketMemory(1 << 20);
const map = new BpfMap(memory, createMap(shape), shape, 64);
for (let i = 0; i < BATCH; i++) memory.view.setInt32(map.keys + i * shape.keyBytes, i, true);

function use(rounds: number): void {
  for (let i = 0; i < rounds; i++) {
    map.update();
    map.lookup();
    map.lookupAndDelete();
    map.update();
    map.delete();
    map.updateBatch(BATCH / 2, BATCH / 2);
    map.updateBatch(BATCH / 2);
    map.rewind();
    map.lookupBatch();
  }
}

if (gc === undefined) throw new Error("run with --expose-gc");
use(ROUNDS); // until everything is compiled
gc();
const before = process.memoryUsage().heapUsed;
use(ROUNDS);
console.log((process.memoryUsage().heapUsed - before) / ROUNDS / CALLS);
libc.close(map.fd);
