// Maglev hashing (Eisenbud et al., NSDI 2016, section 3.4): a table of slots that the tasks fill by their own
// permutations, in turns by weight. Every node and worker makes the same table, so that a connection goes to the same
// task wherever its packets come in. A choice takes one look, whatever the number of tasks.
import type { Packet } from "../../packet/packet.ts";
import type { VipRow } from "../rows.ts";
import { connectionHash, mix } from "./hash.ts";
import type { Candidates, Scheduler } from "./scheduler.ts";

/** Primes. A table has the first that is at least a hundred times the tasks: section 5.3's choice for an even spread. */
const SIZES = [251, 509, 1021, 2039, 4093, 8191, 16381, 32749, 65521, 131071, 262139, 524287];
const SLOTS_PER_TASK = 100;
const OFFSET_KEY = 0x6d61676c;
const SKIP_KEY = 0x6576;
const FREE = 0xffff;

export class Maglev implements Scheduler {
  readonly #tables = new WeakMap<VipRow, Uint16Array>(); // BOUNDED: by the rows in force

  /** Fills the VIP's table: up to half a million slots, so this is no work for a packet to wait for. */
  prepare(vip: VipRow): void {
    this.#tables.set(vip, fill(vip.tasks, vip.balancing.weights));
  }

  choose(vip: VipRow, candidates: Candidates, packet: Packet): number {
    const table = this.#tables.get(vip)!; // of a row in force
    const slot = (connectionHash(packet) >>> 0) % table.length;
    // The slot of a task that is away goes to the next slot's task, so that only its own connections move.
    for (let i = 0; i < table.length; i++) {
      const index = table[(slot + i) % table.length]!;
      if (index !== FREE && candidates.isOne[index] === 1) return index;
    }
    return candidates.index[0]!;
  }
}

function fill(tasks: readonly number[], weights: readonly number[]): Uint16Array {
  const size = SIZES.find((prime) => prime >= tasks.length * SLOTS_PER_TASK) ?? SIZES.at(-1)!;
  const table = new Uint16Array(size).fill(FREE);
  const heaviest = Math.max(...weights, 1);
  const place = tasks.map((task) => (mix(task, OFFSET_KEY) >>> 0) % size);
  const skip = tasks.map((task) => 1 + ((mix(task, SKIP_KEY) >>> 0) % (size - 1)));
  const credit = tasks.map(() => 0);
  for (let filled = 0; filled < size && weights.some((weight) => weight > 0); ) {
    for (let i = 0; i < tasks.length && filled < size; i++) {
      credit[i]! += weights[i]!;
      if (credit[i]! < heaviest) continue; // its weight gives it a turn in some rounds only
      credit[i]! -= heaviest;
      while (table[place[i]!] !== FREE) place[i] = (place[i]! + skip[i]!) % size;
      table[place[i]!] = i;
      filled++;
    }
  }
  return table;
}
