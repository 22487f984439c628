// Three nodes whose cluster is filled through the local API: services with a virtual IP and no tasks, tasks of a few of
// them, and changes that come at a steady rate.
import { setTimeout as delay } from "node:timers/promises";
import { ApiClient } from "../src/api/client.ts";
import { waitFor } from "../test/system/command.ts";
import type { LabNode } from "../test/system/lab.ts";
import { NETWORK, type Overlay } from "./overlay.ts";

/** Each holds 4,093 addresses. The first is the one that the overlay's containers are on. */
export const NETWORKS = [NETWORK, "second", "third"] as const;
const WORKLOAD = { runtime: "process" as const, command: ["sleep", "infinity"] };
const APPLIED_MS = 60_000;
const SERVICES_WITH_TASKS = 10;
const TASKS_STARTED_AT_ONCE = 20;

export class ControlCluster {
  readonly overlay: Overlay;
  readonly #api: ApiClient;
  #services = 0;
  /** Tasks of the overlay's own services, and those that were started here. */
  #ownTasks = 0;
  #begun = 0;
  #tasks = 0;
  #changes = 0;

  static async of(overlay: Overlay): Promise<ControlCluster> {
    const api = new ApiClient(overlay.lab.nodes[0]!.env.OVERLAYD_SOCKET!);
    for (const name of NETWORKS.slice(1)) await api.createNetwork({ name });
    const cluster = new ControlCluster(overlay, api);
    const names = (await api.services()).map(({ name }) => name);
    cluster.#services = names.length;
    cluster.#ownTasks = await cluster.#running(names);
    return cluster;
  }

  private constructor(overlay: Overlay, api: ApiClient) {
    this.overlay = overlay;
    this.#api = api;
  }

  /** The leader's node. */
  get manager(): LabNode {
    return this.overlay.lab.nodes[0]!;
  }

  get services(): number {
    return this.#services;
  }

  /** Tasks that run. */
  get tasks(): number {
    return this.#ownTasks + this.#tasks;
  }

  /** Resolves with the service's revision. */
  async createService(): Promise<number> {
    const number = this.#begun++;
    const networks = [NETWORKS[number % NETWORKS.length]!];
    const body = { name: `many-${number}`, workload: WORKLOAD, replicas: 0, networks };
    const { revision } = await this.#api.createService(body);
    this.#services++;
    return revision;
  }

  /** Resolves when all nodes have all that was made in force. */
  async settle(): Promise<void> {
    const { revision } = await this.#api.status();
    await this.#api.waitApplied({ revision, timeoutMs: APPLIED_MS });
  }

  /** Has `count` tasks started in small steps, spread over a few services. Stops at the deadline, with fewer. */
  async startTasks(count: number, deadlineMs: number): Promise<void> {
    const end = performance.now() + deadlineMs;
    const names = (await this.#api.services()).map(({ name }) => name).filter((name) => name.startsWith("many-"));
    const scaled = names.slice(0, SERVICES_WITH_TASKS);
    while (this.#tasks < count && performance.now() < end) {
      const wanted = Math.min(count, this.#tasks + TASKS_STARTED_AT_ONCE);
      for (const [i, name] of scaled.entries()) {
        await this.#api.scaleService(name, Math.floor((wanted + i) / scaled.length));
      }
      const all = async (): Promise<boolean> => (await this.#running(scaled)) === wanted;
      const leftMs = Math.max(0, end - performance.now());
      await waitFor(all, { what: `${wanted} tasks`, deadlineMs: leftMs }).catch(() => {}); // counted below
      this.#tasks = await this.#running(scaled);
    }
  }

  /** A change that concerns no node's tasks: a service is made, the next time it is removed. Resolves with its revision. */
  async change(): Promise<number> {
    const body = { name: `change-${this.#changes >> 1}`, workload: WORKLOAD, replicas: 0, networks: [NETWORK] };
    const isCreated = this.#changes++ % 2 === 1;
    const { revision } = isCreated ? await this.#api.removeService(body.name) : await this.#api.createService(body);
    return revision;
  }

  /** Milliseconds from the call until all nodes have the change in force. */
  async changeInForce(): Promise<number> {
    const began = performance.now();
    const revision = await this.change();
    await this.#api.waitApplied({ revision, timeoutMs: APPLIED_MS });
    return performance.now() - began;
  }

  /**
   * Makes a change each `everyMs` until `signal` is aborted or `count` are made; how many were made. A change that
   * takes longer delays the next one.
   */
  async changeSteadily(everyMs: number, { count = Infinity, signal }: { count?: number; signal?: AbortSignal }) {
    let made = 0;
    const began = performance.now();
    while (made < count && signal?.aborted !== true) {
      await this.change();
      made++;
      await delay(Math.max(0, began + made * everyMs - performance.now()));
    }
    return made;
  }

  async #running(services: readonly string[]): Promise<number> {
    const tasks = await Promise.all(services.map((name) => this.#api.tasks(name)));
    return tasks.flat().filter(({ state, desired }) => state === "running" && desired === "running").length;
  }
}
