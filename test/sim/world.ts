// A leader and three agents' sessions in one process, on a wire in memory and a virtual clock.
import type { CommandInput } from "../../src/cluster/commands.ts";
import { Leader, type LeaderConfig } from "../../src/leader/leader.ts";
import { silentLog } from "../../src/lib/log.ts";
import { found } from "../fakes/founding.ts";
import { MemoryStore } from "../fakes/memory-store.ts";
import { MemoryWire } from "../fakes/memory-transport.ts";
import { seededRandom } from "../fakes/seeded-random.ts";
import { VirtualClock } from "../fakes/virtual-clock.ts";
import { countingIds } from "../leader/ids.ts";
import { SimulatedNode } from "./simulated-node.ts";

export const MANAGER = "192.0.2.11:2377";
let runs = 0;

export class World {
  readonly clock = new VirtualClock();
  readonly wire = new MemoryWire();
  store = new MemoryStore();
  readonly nodes: SimulatedNode[];
  readonly #newId = countingIds();
  leader: Leader | undefined;

  constructor() {
    const run = String(++runs);
    const shared = { wire: this.wire, clock: this.clock, random: seededRandom(1), managers: [MANAGER] };
    this.nodes = [1, 2, 3].map((i) => {
      const told = { listen: null, advertise: null, mesh: true };
      const identity = {
        name: `node${i}`,
        address: `192.0.2.1${i}`,
        vxlanPort: 4789,
        sealed: { port: 4500, keyPort: 4789 },
        manager: i === 1,
        ...told,
      };
      return new SimulatedNode(identity, shared, run);
    });
  }

  static async start(): Promise<World> {
    const world = new World();
    await world.lead();
    for (const node of world.nodes) await node.start();
    await world.until("all are connected", () => world.nodes.every(({ session }) => session.connected));
    return world;
  }

  /** A leader begins. An empty store gets the first state of another cluster, unless `init` is false. */
  async lead(change: Partial<LeaderConfig> = {}, init = true): Promise<void> {
    const config = { reservedPorts: [], ...change };
    const { store, clock } = this;
    const newId = this.#newId;
    if (init && (await store.load()).revision === 0) await found(store, { identity: this.nodes[0]!.identity, newId });
    this.leader = new Leader({ store, clock, log: silentLog, newId, config });
    await this.leader.start();
    this.wire.setLeader(MANAGER, this.leader);
  }

  async stopLeader(): Promise<void> {
    this.wire.setLeader(MANAGER, undefined);
    await this.leader!.stop();
    this.leader = undefined;
  }

  /** Lets time pass until the condition holds, for at most a minute of the clock's time. */
  async until(what: string, isSo: () => boolean): Promise<void> {
    for (let i = 0; i < 600; i++) {
      if (isSo()) return;
      await this.clock.advance(100);
    }
    throw new Error(`not within a minute: ${what}`);
  }

  /** Waits for work that needs time to pass. */
  async during<T>(work: Promise<T>): Promise<T> {
    let done = false;
    const finish = () => {
      done = true;
    };
    work.then(finish, finish);
    await this.until("the work is done", () => done);
    return work;
  }

  /** How many tasks run on each node. */
  spread(): number[] {
    return this.nodes.map(({ running }) => running.size);
  }

  async end(): Promise<void> {
    for (const node of this.nodes) await node.remove();
    await this.leader?.stop();
  }
}

export const search: CommandInput = {
  type: "service.create",
  name: "search",
  workload: { runtime: "process", command: ["server"] },
  replicas: 3,
};

export async function createSearch(world: World): Promise<void> {
  const { calls } = world.nodes[1]!;
  const { revision } = await world.during(calls.execute(search));
  await world.during(calls.waitApplied(revision, 10_000));
}
