// The members of etcd follow the managers of the state, one step at a time, and never at the cost of the quorum.
import test from "ava";
import type { EtcdCheck } from "../../src/leader/etcd-checks.ts";
import type { EtcdMember } from "../../src/leader/etcd-client.ts";
import { EtcdMembers, type ManagerRow, type MemberCondition, quorumOf } from "../../src/leader/etcd-members.ts";
import { UserError } from "../../src/lib/errors.ts";
import { silentLog } from "../../src/lib/log.ts";
import { VirtualClock } from "../fakes/virtual-clock.ts";

/** Managers and an etcd of which `names` are members. */
class World {
  readonly clock = new VirtualClock();
  readonly calls: string[] = [];
  readonly conditions = new Map<string, MemberCondition>();
  readonly checks: EtcdCheck[] = [];
  beginFails = false;
  caughtUp = true;
  managers: ManagerRow[];
  list: EtcdMember[];
  readonly members: EtcdMembers;

  constructor(managers: string[], names = managers, { takesSlowDisks = false } = {}) {
    this.managers = managers.map((name) => this.row(name));
    this.list = names.map((name) => ({ id: `m-${name}`, name, peerUrls: [`https://${name}:2380`], isLearner: false }));
    this.members = new EtcdMembers({
      takesSlowDisks,
      clock: this.clock,
      log: silentLog,
      managers: () => this.managers,
      beforeChange: async () => void this.calls.push("export"),
      client: {
        members: async () => this.list.map((member) => ({ ...member })),
        addLearner: async (peerUrl) => {
          this.calls.push(`add ${peerUrl}`);
          const learner = { id: `m-${peerUrl}`, name: "", peerUrls: [peerUrl], isLearner: true };
          this.list.push(learner);
          return learner;
        },
        promoteMember: async (id) => {
          if (!this.caughtUp) throw new Error("it is not in step");
          this.calls.push(`promote ${id}`);
          this.list.find((member) => member.id === id)!.isLearner = false;
        },
        removeMember: async (id) => {
          this.calls.push(`drop ${id}`);
          this.list = this.list.filter((member) => member.id !== id);
        },
      },
      agentOf: (id) => ({
        check: async () => this.checks,
        begin: async ({ members }) => {
          if (this.beginFails) throw new UserError(409, "its port is taken");
          this.calls.push(`begin ${id} with ${members.map(({ name }) => name).join()}`);
          const own = this.list.find(({ peerUrls }) => peerUrls[0] === `https://${id}:2380`)!;
          own.name = id;
        },
        remove: async () => void this.calls.push(`remove ${id}`),
        condition: async () => this.conditions.get(id) ?? "well",
      }),
    });
  }

  row(id: string): ManagerRow {
    return { id, name: id, peerUrl: `https://${id}:2380`, isReady: true };
  }

  async settle(): Promise<string[]> {
    this.calls.length = 0;
    while (await this.members.step());
    return this.calls;
  }
}

test("managers are added one after the other, each votes before the next one comes", async (t) => {
  const world = new World(["a", "b", "c"], ["a"]);
  t.deepEqual(await world.settle(), [
    ...["export", "add https://b:2380", "remove b", "begin b with a,b", "promote m-https://b:2380"],
    ...["export", "add https://c:2380", "remove c", "begin c with a,b,c", "promote m-https://c:2380"],
  ]);
  t.deepEqual(await world.settle(), []);
  t.is(world.members.problems.size, 0);
});

test("a manager that is not ready is not added", async (t) => {
  const world = new World(["a", "b"], ["a"]);
  world.managers[1]!.isReady = false;
  t.deepEqual(await world.settle(), []);
});

test("a manager whose machine cannot run etcd is not added, and the reason is kept until it is", async (t) => {
  const world = new World(["a", "b"], ["a"]);
  world.checks.push({ verdict: "refused", text: "no room" });
  t.deepEqual(await world.settle(), []);
  t.is(world.members.problems.get("b"), "no room");
  world.checks.length = 0;
  await world.settle();
  t.is(world.members.problems.size, 0);
});

test("a manager whose etcd does not begin is no member", async (t) => {
  const world = new World(["a", "b"], ["a"]);
  world.beginFails = true;
  t.deepEqual(await world.settle(), ["export", "add https://b:2380", "remove b", "drop m-https://b:2380"]);
  t.is(world.members.problems.get("b"), "its port is taken");
});

test("a learner that does not follow is given up after two minutes, and no other one is added meanwhile", async (t) => {
  const world = new World(["a", "b", "c"], ["a"]);
  world.caughtUp = false;
  await world.settle();
  t.deepEqual(await world.settle(), []);
  t.regex(world.members.problems.get("b")!, /its etcd is being added: it is not in step/);
  await world.clock.advance(120_000);
  t.deepEqual(await world.settle(), ["export", "drop m-https://b:2380", "remove b"]);
  t.regex(world.members.problems.get("b")!, /was not in step after 120 s/);
});

test("a learner whose data is damaged or gone is removed after some tries of its agent, and added again", async (t) => {
  const world = new World(["a", "b"], ["a"]);
  world.caughtUp = false;
  await world.settle();
  world.conditions.set("b", "damaged");
  t.deepEqual(await world.settle(), []);
  await world.clock.advance(10_000);
  t.deepEqual(await world.settle(), ["export", "drop m-https://b:2380", "remove b"]);
  world.conditions.clear();
  world.caughtUp = true;
  t.true((await world.settle()).includes("begin b with a,b"));
});

test("a disk that is too slow keeps a manager from etcd, unless an operator wants it; nothing else is so", async (t) => {
  for (const [mayBeForced, takesSlowDisks] of [
    [true, true],
    [true, false],
    [false, true],
  ]) {
    const world = new World(["a", "b"], ["a"], { takesSlowDisks: takesSlowDisks! });
    world.checks.push({ verdict: "refused", text: "no", ...(mayBeForced ? { mayBeForced: true } : {}) });
    await world.settle();
    t.is(world.members.problems.get("b"), mayBeForced && takesSlowDisks ? undefined : "no");
  }
});

test("a node that is no manager any more is removed, the member first and then its data", async (t) => {
  const world = new World(["a", "b", "c"]);
  world.managers.pop();
  t.deepEqual(await world.settle(), ["export", "drop m-c", "remove c"]);
});

test("the last member is never removed", async (t) => {
  const world = new World(["a"]);
  world.managers = [];
  t.deepEqual(await world.settle(), []);
});

test("a member with damaged data is removed and added again while the others are well", async (t) => {
  const world = new World(["a", "b", "c"]);
  world.conditions.set("c", "damaged");
  await world.members.step();
  t.deepEqual(world.calls, ["export", "drop m-c", "remove c"]);
  world.conditions.clear();
  t.true((await world.settle()).includes("begin c with a,b,c"));
});

test("a member with damaged data stays while too few others are well, and the reason says so", async (t) => {
  const world = new World(["a", "b", "c"]);
  world.conditions.set("c", "damaged").set("b", "ended");
  t.deepEqual(await world.settle(), []);
  t.regex(world.members.problems.get("c")!, /data is damaged, and only 1 of 3 members is well/);
});

test("a majority is more than half", (t) => {
  t.deepEqual([1, 2, 3, 4, 5].map(quorumOf), [1, 2, 2, 3, 3]);
});
