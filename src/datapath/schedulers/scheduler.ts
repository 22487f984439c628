// What a scheduler is: it chooses one of the tasks that a new flow to a VIP may go to. Hot for new flows: none may
// allocate, but for what it keeps of a VIP. That hangs on the row, and goes when the row is replaced.
import type { Ipv4 } from "../../lib/ip.ts";
import type { Packet } from "../../packet/packet.ts";
import type { VipRow } from "../rows.ts";

/** The tasks in question, by their place in the row's list. */
export class Candidates {
  /** The first `count` count. BOUNDED: grows to the most tasks that a VIP ever had. */
  index = new Int32Array(64);
  /** 1: the task at this place is one. */
  isOne = new Uint8Array(64);
  count = 0;

  /** Empties it, with room for `size`. */
  clear(size: number): void {
    if (size > this.index.length) {
      this.index = new Int32Array(2 * size);
      this.isOne = new Uint8Array(2 * size);
    } else this.isOne.fill(0, 0, size);
    this.count = 0;
  }

  add(index: number): void {
    this.index[this.count++] = index;
    this.isOne[index] = 1;
  }
}

export interface Scheduler {
  /** The place of one of the candidates, of which there is at least one, in `vip.tasks`. */
  choose(vip: VipRow, candidates: Candidates, packet: Packet): number;
}

/** How many flows each task has, as far as this worker knows. */
export interface Load {
  of(task: Ipv4): number;
  /** It is given one more. */
  add(task: Ipv4): void;
}
