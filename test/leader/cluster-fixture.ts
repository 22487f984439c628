// A leader over a store in memory, on a virtual clock, and nodes that join it.

import { settingsOf } from "../../src/cluster/lookup.ts";
import type { Node, Service, Task } from "../../src/cluster/schema.ts";
import type { AskedSettings } from "../../src/cluster/settings.ts";
import { Leader, type LeaderConfig } from "../../src/leader/leader.ts";
import type { Store } from "../../src/leader/store.ts";
import { silentLog } from "../../src/lib/log.ts";
import { found } from "../fakes/founding.ts";
import { MemoryStore } from "../fakes/memory-store.ts";
import { VirtualClock } from "../fakes/virtual-clock.ts";
import { FakeNode, identityOf } from "./fake-node.ts";
import { countingIds } from "./ids.ts";

export const LIVENESS_MS = 15_000;

export const LEADER_CONFIG: LeaderConfig = {
  reservedPorts: [{ port: 2377, protocol: "tcp", owner: "the cluster port" }],
};

interface ClusterOptions extends Partial<LeaderConfig> {
  settings?: AskedSettings;
}

export class Cluster<S extends Store = MemoryStore> {
  readonly clock = new VirtualClock();
  readonly store: S;
  readonly #newId = countingIds();
  readonly #config: LeaderConfig;
  readonly #settings: AskedSettings;
  leader!: Leader;
  nodes: FakeNode[] = [];

  constructor({ settings = {}, ...config }: ClusterOptions = {}, store = new MemoryStore() as Store as S) {
    this.store = store;
    this.#settings = settings;
    this.#config = { ...LEADER_CONFIG, ...config };
  }

  /** With `count` nodes, named node1 and so on, that have done as told. */
  static async start(count: number, config?: ClusterOptions): Promise<Cluster> {
    const cluster = new Cluster(config);
    await cluster.lead();
    for (let i = 1; i <= count; i++) cluster.nodes.push(new FakeNode(identityOf(i)));
    for (const node of cluster.nodes) await node.join(cluster.leader);
    await cluster.settle();
    return cluster;
  }

  /** A leader begins, from what the store has; an empty store gets the first state of a cluster. */
  async lead(): Promise<void> {
    const { store, clock } = this;
    const newId = this.#newId;
    const settings = this.#settings;
    if (settingsOf(await store.load()) === undefined) await found(store, { identity: identityOf(1), newId, settings });
    this.leader = new Leader({ store, clock, log: silentLog, newId, config: this.#config });
    await this.leader.start();
  }

  /** All nodes that have a session do as they are told, until nothing changes. Throws when that never comes. */
  async settle(): Promise<void> {
    let rounds = 0;
    for (let revision = -1; revision !== this.leader.state.revision; ) {
      if (++rounds > 1000) throw new Error("the cluster does not come to rest");
      revision = this.leader.state.revision;
      for (const node of this.nodes) if (node.joined) await node.obey();
    }
  }

  /** Lets time pass; nodes with a session show that they live. */
  async pass(ms: number): Promise<void> {
    for (let passed = 0; passed < ms; passed += LIVENESS_MS / 5) {
      await this.clock.advance(LIVENESS_MS / 5);
      await this.settle();
    }
  }

  node(name: string): Node {
    return [...this.leader.state.nodes.values()].find((node) => node.name === name)!;
  }

  service(name: string): Service {
    return [...this.leader.state.services.values()].find((service) => service.name === name)!;
  }

  tasks(serviceName: string): Task[] {
    const { id } = this.service(serviceName);
    return [...this.leader.state.tasks.values()].filter(({ serviceId }) => serviceId === id);
  }

  /** How many tasks that should run each node has, in the order of the nodes' names. */
  spread(serviceName: string): number[] {
    const wanted = this.tasks(serviceName).filter(({ desired }) => desired === "running");
    const names = this.nodes.map(({ identity }) => identity.name).toSorted();
    return names.map((name) => wanted.filter(({ nodeId }) => nodeId === this.node(name)?.id).length);
  }
}
