// Chooses the task of a new flow to a VIP.
import type { Ipv4 } from "../lib/ip.ts";
import type { Packet } from "../packet/packet.ts";
import type { Tables, VipRow } from "./tables.ts";

/** Whether the peer at a VTEP answers probes, as this node's own probes say. */
export type Reachable = (vtep: Ipv4) => boolean;

export class Balancer {
  readonly #tables: Tables;
  readonly #reachable: Reachable;
  readonly #nextByVip = new Map<Ipv4, number>(); // BOUNDED: by the VIPs; keyed by address

  constructor(tables: Tables, reachable: Reachable) {
    this.#tables = tables;
    this.#reachable = reachable;
  }

  /**
   * The address of a task, round robin over those whose node answers; if none does, over all of them. 0: no task.
   * Hot path for new flows: must not allocate.
   */
  choose(vip: VipRow, packet: Packet): Ipv4 {
    const { tasks } = vip;
    if (tasks.length === 0) return 0;
    const start = this.#start(vip, packet);
    for (let i = 0; i < tasks.length; i++) {
      const task = tasks[(start + i) % tasks.length]!;
      const endpoint = this.#tables.endpoints.get(task);
      if (endpoint !== undefined && (endpoint.vtep === 0 || this.#reachable(endpoint.vtep))) return task;
    }
    return tasks[start]!;
  }

  #start(vip: VipRow, _packet: Packet): number {
    const next = this.#nextByVip.get(vip.ip) ?? 0;
    this.#nextByVip.set(vip.ip, (next + 1) % vip.tasks.length);
    return next % vip.tasks.length;
  }
}
