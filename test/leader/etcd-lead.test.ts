// The manager that leads has its own member lead etcd, when that costs nothing, and gives that away when it stops.
import test from "ava";
import { EtcdLead } from "../../src/leader/etcd-lead.ts";
import type { MemberCondition } from "../../src/leader/etcd-members.ts";
import { createLog } from "../../src/lib/log.ts";
import { VirtualClock } from "../fakes/virtual-clock.ts";

const OWN = "1";
const OTHER = "2";
const LOOK_MS = 10_000;

/** An etcd of three members; the manager that leads is node a. */
class World {
  readonly clock = new VirtualClock();
  readonly moves: string[] = [];
  readonly logged: string[] = [];
  leader = OTHER;
  looks = 0;
  learner = false;
  behind = 0;
  errors: string[] = [];
  alarm = false;
  isChanging = false;
  isPaused = false;
  failure: Error | undefined;
  readonly conditions = new Map<string, MemberCondition>();
  readonly lead: EtcdLead;

  constructor() {
    const move = async (by: string, to: string): Promise<void> => {
      if (!this.isPaused) throw new Error("a write may be under way");
      if (this.failure !== undefined) throw this.failure;
      this.moves.push(`${by}: ${to}`);
      this.leader = to;
    };
    this.lead = new EtcdLead({
      client: {
        status: async () => {
          this.looks++;
          const { leader, errors, behind } = this;
          const common = { clusterId: "9", memberId: OWN, version: "3.4.23", isLearner: false, dbBytes: 1 };
          return { ...common, leader, errors, dbBytesInUse: 1, raftIndex: 5000, raftAppliedIndex: 5000 - behind };
        },
        members: async () =>
          ["a", "b", "c"].map((name, i) => ({
            ...{ id: `${i + 1}`, name, peerUrls: [] },
            isLearner: this.learner && name === "c",
          })),
        alarms: async () => (this.alarm ? [{ memberId: OTHER, alarm: "NOSPACE" }] : []),
        moveLeader: (to) => move("a", to),
      },
      agentOf: (id) => ({
        condition: async () => this.conditions.get(id) ?? "well",
        giveLead: (to) => move(id, to),
      }),
      pause: async (work) => {
        this.isPaused = true;
        await work().finally(() => {
          this.isPaused = false;
        });
      },
      isChanging: () => this.isChanging,
      clock: this.clock,
      log: createLog("info", { write: (line: string) => void this.logged.push(line) }),
    });
  }

  async look(afterMs = LOOK_MS): Promise<string[]> {
    await this.clock.advance(afterMs);
    await this.lead.step();
    return this.moves.splice(0);
  }
}

test("the member that leads etcd is asked to let the leader's own lead, by its manager, while nothing is written", async (t) => {
  const world = new World();
  t.deepEqual(await world.look(0), []); // the manager before may be giving it away
  t.deepEqual(await world.look(2000), ["b: 1"]);
  t.deepEqual(await world.look(), []);
  world.leader = "3"; // etcd has elected
  t.deepEqual(await world.look(), ["c: 1"]);
});

test("it looks rarely", async (t) => {
  const world = new World();
  for (let i = 0; i < 60; i++) await world.look(1000);
  t.true(world.looks >= 5 && world.looks <= 7, `${world.looks}`);
});

const NOT_NOW: Record<string, (world: World) => void> = {
  "etcd has no leader": (world) => {
    world.leader = "0";
  },
  "a member is a learner": (world) => {
    world.learner = true;
  },
  "its own member is behind": (world) => {
    world.behind = 1001;
  },
  "its own member says that it is not well": (world) => {
    world.errors = ["etcdserver: no space"];
  },
  "a member has an alarm": (world) => {
    world.alarm = true;
  },
  "members are being changed, or started again": (world) => {
    world.isChanging = true;
  },
  "its own member has ended": (world) => void world.conditions.set("a", "ended"),
  "a third member is damaged": (world) => void world.conditions.set("c", "damaged"),
};

for (const [title, arrange] of Object.entries(NOT_NOW)) {
  test(`nothing is asked for while ${title}, and nothing is said of it`, async (t) => {
    const world = new World();
    arrange(world);
    for (let i = 0; i < 5; i++) t.deepEqual(await world.look(), []);
    t.deepEqual(world.logged, []);
  });
}

test("a failure is said once, and the next attempts come more and more rarely", async (t) => {
  const world = new World();
  world.failure = new Error("not leader");
  for (let i = 0; i < 600; i++) await world.look(1000);
  t.is(world.logged.length, 1, world.logged.join(""));
  t.regex(world.logged[0]!, /not leader.*another manager's member leads etcd on/);
  t.true(world.looks <= 8, `${world.looks}`);
  world.failure = undefined;
  t.deepEqual(await world.look(600_000), ["b: 1"]);
});

test("a manager that stops gives it to a member that is well, and to none when none is", async (t) => {
  const signal = new AbortController().signal;
  const world = new World();
  world.leader = OWN;
  world.conditions.set("b", "ended");
  await world.lead.giveAway(signal);
  t.deepEqual(world.moves.splice(0), ["a: 3"]);
  await world.lead.giveAway(signal);
  t.deepEqual(world.moves, []); // another one has it
  world.leader = OWN;
  world.conditions.set("c", "ended");
  await world.lead.giveAway(signal);
  world.conditions.clear();
  world.isChanging = true;
  await world.lead.giveAway(signal);
  world.isChanging = false;
  await world.lead.giveAway(AbortSignal.abort());
  t.deepEqual(world.moves, []);
});
