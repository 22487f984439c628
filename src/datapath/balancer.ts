// Chooses the task of a new flow to a VIP: which tasks are candidates, and which scheduler decides.
import type { Ipv4 } from "../lib/ip.ts";
import { Protocol } from "../packet/ipv4.ts";
import type { Packet } from "../packet/packet.ts";
import { Flag } from "../packet/tcp.ts";
import { AffinityTable } from "./affinity.ts";
import { DEVICE, type VipRow } from "./rows.ts";
import { createSchedulers } from "./schedulers/all.ts";
import { clientHash, connectionHash } from "./schedulers/hash.ts";
import { rendezvous } from "./schedulers/rendezvous.ts";
import { Candidates, type Load } from "./schedulers/scheduler.ts";
import type { Tables } from "./tables.ts";

/** Whether the peer at a VTEP answers probes, as this node's own probes say. */
type Reachable = (vtep: Ipv4) => boolean;

export class Balancer {
  readonly #tables: Tables;
  readonly #reachable: Reachable;
  readonly #schedulers: ReturnType<typeof createSchedulers>;
  readonly #affinity = new AffinityTable();
  readonly #candidates = new Candidates();

  constructor(tables: Tables, reachable: Reachable, load: Load) {
    this.#tables = tables;
    this.#reachable = reachable;
    this.#schedulers = createSchedulers(load);
  }

  /** Does the work that the scheduler of a new VIP can do before its first packet. */
  prepare(vip: VipRow): void {
    this.#schedulers[vip.balancing.scheduler].prepare?.(vip);
  }

  /** The address of a task; 0: there is none. Hot path for new flows: must not allocate. */
  choose(vip: VipRow, packet: Packet, seconds: number): Ipv4 {
    this.#findCandidates(vip);
    if (this.#candidates.count === 0) return 0;
    const { affinitySeconds } = vip.balancing;
    if (affinitySeconds > 0) return this.#chooseForClient(vip, packet.source, seconds, affinitySeconds);
    return vip.tasks[this.#schedule(vip, packet)]!;
  }

  #schedule(vip: VipRow, packet: Packet): number {
    const { scheduler } = vip.balancing;
    // For a connection met in mid-stream every node and worker must come to the same task. Schedulers that hash do so anyway.
    const isMidStream = packet.protocol === Protocol.Tcp && (packet.tcpFlags & Flag.Syn) === 0;
    if (isMidStream && scheduler !== "maglev" && scheduler !== "sh")
      return rendezvous(vip, this.#candidates, connectionHash(packet));
    return this.#schedulers[scheduler].choose(vip, this.#candidates, packet);
  }

  /** The task that the client had, or the one that every node and worker would give it. */
  #chooseForClient(vip: VipRow, client: Ipv4, seconds: number, timeoutSeconds: number): Ipv4 {
    const { tasks } = vip;
    const candidates = this.#candidates;
    const had = this.#affinity.taskOf(vip.ip, client, seconds, timeoutSeconds);
    const index = had === 0 ? -1 : tasks.indexOf(had);
    const isStill = index >= 0 && candidates.isOne[index] === 1;
    const task = isStill ? had : tasks[rendezvous(vip, candidates, clientHash(client, vip.ip))]!;
    this.#affinity.remember(vip.ip, client, task, seconds);
    return task;
  }

  /**
   * Finds tasks with a weight whose node answers probes; if there are none, all with a weight. Where local tasks are preferred and
   * there are any, only those count.
   */
  #findCandidates(vip: VipRow): void {
    if (vip.balancing.preferLocal) {
      this.#collect(vip, true, true);
      if (this.#candidates.count > 0) return;
    }
    this.#collect(vip, true, false);
    if (this.#candidates.count === 0) this.#collect(vip, false, false);
  }

  #collect(vip: VipRow, reachableOnly: boolean, localOnly: boolean): void {
    const { tasks, balancing } = vip;
    const candidates = this.#candidates;
    candidates.clear(tasks.length);
    for (let i = 0; i < tasks.length; i++) {
      if (balancing.weights[i] === 0) continue;
      const endpoint = this.#tables.endpoints.get(tasks[i]!);
      if (endpoint === undefined) continue;
      const isLocal = endpoint.vtep === DEVICE;
      if (localOnly && !isLocal) continue;
      if (reachableOnly && !isLocal && !this.#reachable(endpoint.vtep)) continue;
      candidates.add(i);
    }
  }
}
