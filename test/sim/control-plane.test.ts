// A leader and three agents' sessions in one process, on a wire in memory and a virtual clock.
import test from "ava";
import type { CommandInput } from "../../src/cluster/commands.ts";
import { Leader } from "../../src/cluster/leader.ts";
import type { Task } from "../../src/cluster/schema.ts";
import { UserError } from "../../src/lib/errors.ts";
import { silentLog } from "../../src/lib/log.ts";
import { countingIds } from "../cluster/ids.ts";
import { MemoryStore } from "../fakes/memory-store.ts";
import { MemoryWire } from "../fakes/memory-transport.ts";
import { seededRandom } from "../fakes/seeded-random.ts";
import { VirtualClock } from "../fakes/virtual-clock.ts";
import { SimulatedNode } from "./simulated-node.ts";

const MANAGER = "192.0.2.11:2377";
let runs = 0;

class World {
  readonly clock = new VirtualClock();
  readonly wire = new MemoryWire();
  readonly store = new MemoryStore();
  readonly nodes: SimulatedNode[];
  readonly #newId = countingIds();
  leader: Leader | undefined;

  constructor() {
    const run = String(++runs);
    const shared = { wire: this.wire, clock: this.clock, random: seededRandom(1), managers: [MANAGER] };
    this.nodes = [1, 2, 3].map((i) => {
      const identity = { name: `node${i}`, address: `192.0.2.1${i}`, vxlanPort: 4789, manager: i === 1, mesh: true };
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

  async lead(): Promise<void> {
    const config = { pool: "10.192.0.0/10", livenessMs: 15_000, reservedPorts: [], domain: "overlay" };
    const { store, clock } = this;
    this.leader = new Leader({ store, clock, log: silentLog, newId: this.#newId, config });
    await this.leader.start();
    this.wire.setLeader(MANAGER, this.leader);
  }

  async stopLeader(): Promise<void> {
    this.wire.setLeader(MANAGER, undefined);
    await this.leader!.stop();
    this.leader = undefined;
  }

  /** Lets time pass until it is so; a minute of the clock's time at most. */
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

const search: CommandInput = {
  type: "service.create",
  name: "search",
  workload: { runtime: "process", command: ["server"] },
  replicas: 3,
};

async function createSearch(world: World): Promise<void> {
  const { session } = world.nodes[1]!;
  const { revision } = await world.during(session.execute(search));
  await world.during(session.waitApplied(revision, 10_000));
}

test("create, scale up, scale down, remove: each node runs its share, and reads what it wrote", async (t) => {
  const world = await World.start();
  await createSearch(world);
  t.deepEqual(world.spread(), [1, 1, 1]);
  const { session } = world.nodes[2]!;
  const scaled = await world.during(session.execute({ type: "service.scale", name: "search", replicas: 7 }));
  t.true(session.state!.revision >= scaled.revision);
  await world.during(session.waitApplied(scaled.revision, 10_000));
  t.deepEqual(world.spread(), [3, 2, 2]);
  await world.during(session.execute({ type: "service.scale", name: "search", replicas: 2 }));
  await world.until("two are left", () => session.state!.tasks.size === 2);
  await world.during(session.execute({ type: "service.remove", name: "search" }));
  await world.until("none is left", () => session.state!.tasks.size === 0 && world.spread().every((n) => n === 0));
  await world.end();
});

test("a node is cut off: it runs on, others stand in; it comes back and takes its place again", async (t) => {
  const world = await World.start();
  await createSearch(world);
  const lost = world.nodes[2]!;
  const [kept] = lost.running;
  world.wire.cut("node3");
  await world.until("another stands in", () => world.spread()[0]! + world.spread()[1]! === 3);
  await world.until("it knows that it is alone", () => !lost.session.connected);
  t.deepEqual([...lost.running], [kept]);
  world.wire.mend("node3");
  await world.until("all is as before", () => world.spread().join() === "1,1,1" && lost.session.connected);
  t.deepEqual([...lost.running], [kept]);
  await world.until("the stand-in is gone", () => world.leader!.state.tasks.size === 3);
  await world.end();
});

test("a machine reboots while it counts as lost: its task is started there again", async (t) => {
  const world = await World.start();
  await createSearch(world);
  await world.nodes[2]!.stop();
  world.nodes[2]!.reboot();
  await world.until("others stand in", () => world.spread()[0]! + world.spread()[1]! === 3);
  await world.nodes[2]!.start();
  t.is(world.nodes[2]!.running.size, 1);
  await world.until("all is as before", () => world.spread().join() === "1,1,1");
  t.pass();
  await world.end();
});

test("without a leader agents go on, refuse writes clearly, and start from their snapshots; the leader has all of it back", async (t) => {
  const world = await World.start();
  await createSearch(world);
  const before = [...world.nodes[1]!.session.state!.tasks.values()].map(({ id, addresses }: Task) => ({
    id,
    addresses,
  }));
  const { revision } = world.nodes[1]!.session.state!;
  await world.stopLeader();
  await world.until("it is noticed", () => world.nodes.every(({ session }) => !session.connected));
  await world.clock.advance(120_000);
  t.deepEqual(world.spread(), [1, 1, 1]);
  const [node] = world.nodes.slice(1);
  const error = await t.throwsAsync(node!.session.execute({ type: "network.create", name: "web" }), {
    instanceOf: UserError,
  });
  t.is((error as UserError).code, 503);
  t.is(error!.message, `no leader answers (${MANAGER}: ECONNREFUSED)`);
  await node!.stop();
  node!.reboot();
  await node!.start();
  t.is(node!.session.state!.revision, revision);
  t.is(node!.running.size, 1);
  await world.lead();
  await world.until("all are back", () => world.nodes.every(({ session }) => session.connected));
  await world.clock.advance(60_000);
  const after = [...world.leader!.state.tasks.values()].map(({ id, addresses }) => ({ id, addresses }));
  t.deepEqual(after, before);
  await world.during(node!.session.execute({ type: "network.create", name: "web" }));
  await world.end();
});

test("the barrier names the node that is behind", async (t) => {
  const world = await World.start();
  world.wire.cut("node3");
  const { session } = world.nodes[0]!;
  const { revision } = await world.during(session.execute({ type: "network.create", name: "web" }));
  const error = await t.throwsAsync(world.during(session.waitApplied(revision, 2000)), { instanceOf: UserError });
  t.is(error!.message, `revision ${revision} is not in force on node3 after 2000 ms`);
  await world.end();
});
