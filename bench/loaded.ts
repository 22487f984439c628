// A second pair of nodes, whose tables are filled: with services, and with flows.
import { ApiClient } from "../src/api/client.ts";
import { residentMegabytesOf } from "./cpu.ts";
import type { Overlay } from "./overlay.ts";
import type { Probes } from "./probes.ts";

/** Services on one network, which has 4,093 addresses. */
const SERVICES_A_NETWORK = 2500;
const CREATING_AT_ONCE = 64;
const WORKLOAD = { runtime: "process" as const, command: ["sleep", "infinity"] };
const APPLIED_MS = 60_000;
const GROWING_MS = 600_000;
const FLOW_PORTS = 512;
/** Some datagrams are lost, and flows end meanwhile at the rate at which they were made: all of them, where they are as old as they get. */
const FILLING_MS = 60_000;

export class Loaded {
  readonly overlay: Overlay;
  readonly #probes: Probes;
  readonly #apis: readonly ApiClient[];
  #networks = 0;
  #services = 0;

  constructor(overlay: Overlay, probes: Probes) {
    this.overlay = overlay;
    this.#probes = probes;
    this.#apis = overlay.lab.nodes.map(({ env }) => new ApiClient(env.OVERLAYD_SOCKET!));
  }

  /** Creates services, each with a VIP and no tasks, until there are `count`; resolves when all nodes have them in force. */
  async growServices(count: number): Promise<void> {
    const manager = this.#apis[0]!;
    while (this.#networks * SERVICES_A_NETWORK < count) {
      await manager.createNetwork({ name: `many${this.#networks}` });
      this.#networks++;
    }
    let revision = 0;
    const end = performance.now() + GROWING_MS;
    const createSome = async (): Promise<void> => {
      while (this.#services < count) {
        if (performance.now() > end)
          throw new Error(`only ${this.#services} of ${count} services were created in time`);
        const number = this.#services++;
        const networks = [`many${Math.floor(number / SERVICES_A_NETWORK)}`];
        const body = { name: `many-${number}`, workload: WORKLOAD, replicas: 0, networks };
        revision = Math.max(revision, (await manager.createService(body)).revision);
      }
    };
    await Promise.all(Array.from({ length: CREATING_AT_ONCE }, createSome));
    await manager.waitApplied({ revision, timeoutMs: APPLIED_MS });
  }

  /** Tops the flow tables up to `count` flows, of UDP and unanswered: they last 30 seconds. */
  async fillFlows(count: number): Promise<void> {
    let missing = count - (await this.#flows());
    const end = performance.now() + FILLING_MS;
    while (missing > 0 && performance.now() < end) {
      await this.#probes.spreadFlows(this.overlay.direct, Math.ceil(missing / FLOW_PORTS), FLOW_PORTS);
      missing = count - (await this.#flows());
    }
    if (missing > 0) throw new Error(`the flow tables lack ${missing} of ${count} flows`);
  }

  /** Resident megabytes of the larger agent. */
  residentMegabytes(): number {
    return Math.max(...this.overlay.agents().map(residentMegabytesOf));
  }

  /** Flows in the table that has fewer. */
  async #flows(): Promise<number> {
    const counts = this.#apis.map(async (api) => (await api.stats()).datapath.flows!);
    return Math.min(...(await Promise.all(counts)));
  }
}
