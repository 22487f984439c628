// A scheduler chooses one of the tasks that a new flow to a VIP may go to. Hot for new flows: a scheduler allocates nothing, except what
// it keeps for a VIP. It keeps that by row, so that it goes when the row is replaced.
import type { Ipv4 } from "../../lib/ip.ts";
import type { Packet } from "../../packet/packet.ts";
import type { VipRow } from "../rows.ts";

/** The tasks that a flow may go to, by their index in the row's list. */
export class Candidates {
  /** Indexes of the candidates; only the first `count` are valid. BOUNDED: grows to the most tasks that a VIP ever had. */
  index = new Int32Array(64);
  /** 1: the task with this index is a candidate. */
  isOne = new Uint8Array(64);
  count = 0;

  /** Removes all candidates, and makes room for `size`. */
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
  /** Does work for a VIP before its first packet. */
  prepare?(vip: VipRow): void;
  /** The index in `vip.tasks` of one of the candidates. There is at least one. */
  choose(vip: VipRow, candidates: Candidates, packet: Packet): number;
}

/** The number of flows that each task has, as of this worker's last count. */
export interface Load {
  of(task: Ipv4): number;
  /** The task is given one more flow. */
  add(task: Ipv4): void;
}
