// Members of etcd take the CAs that the state says: one after the other, and never one that is well while another is not.
import test from "ava";
import type { MemberCondition } from "../../src/leader/etcd-members.ts";
import type { MemberTrust } from "../../src/leader/manager-protocol.ts";
import { StoreAuthority } from "../../src/leader/store-authority.ts";
import { UserError } from "../../src/lib/errors.ts";
import { silentLog } from "../../src/lib/log.ts";
import { VirtualClock } from "../fakes/virtual-clock.ts";

const OLD: MemberTrust = { trusts: ["old"], signer: "old" };
const BOTH: MemberTrust = { trusts: ["old", "new"], signer: "old" };
const ISSUED: MemberTrust = { trusts: ["old", "new"], signer: "new" };
const NEW: MemberTrust = { trusts: ["new"], signer: "new" };

class World {
  readonly clock = new VirtualClock();
  readonly taken: string[] = [];
  readonly members = new Map(
    ["a", "b", "c"].map((id) => [id, { ...OLD, id, name: `node-${id}`, condition: "well" as MemberCondition }]),
  );
  wanted: MemberTrust | undefined = OLD;
  failure: string | undefined;
  looks = 0;
  /** The leader's own member is `a`. */
  readonly authority = new StoreAuthority({
    ...{ own: "a", clock: this.clock, log: silentLog },
    wanted: () => this.wanted,
    members: async () => {
      this.looks++;
      return [...this.members.values()].map((member) => ({ ...member }));
    },
    take: async (id, wanted) => {
      if (this.failure !== undefined) throw new UserError(503, this.failure);
      this.taken.push(id);
      Object.assign(this.members.get(id)!, wanted);
    },
  });

  async settle(): Promise<string[]> {
    this.taken.length = 0;
    while (await this.authority.step());
    return this.taken;
  }
}

test("each step of a change goes from member to member, the leader's own is the last", async (t) => {
  const world = new World();
  const { authority } = world;
  t.deepEqual(await world.settle(), []);
  for (const wanted of [BOTH, ISSUED, NEW]) {
    world.wanted = wanted;
    t.deepEqual(await world.settle(), ["b", "c", "a"]);
  }
  t.is(authority.problem, undefined);
});

test("what members lack is said by the name of their node", async (t) => {
  const world = new World();
  const { authority, members } = world;
  world.wanted = BOTH;
  Object.assign(members.get("b")!, BOTH);
  t.deepEqual(await authority.notTrustingBoth(), ["node-a", "node-c"]);
  await world.settle();
  t.deepEqual(await authority.notTrustingBoth(), []);
  world.wanted = ISSUED;
  Object.assign(members.get("b")!, ISSUED);
  t.deepEqual(await authority.notRenewed("new"), ["node-a", "node-c"]);
  await world.settle();
  world.wanted = NEW;
  t.deepEqual(await authority.trustingAnother(), ["node-a", "node-b", "node-c"]);
  await world.settle();
  t.deepEqual(await authority.trustingAnother(), []);
});

test("while one member is not well no other one is started again; that one may be", async (t) => {
  const world = new World();
  world.wanted = BOTH;
  world.members.get("c")!.condition = "ended";
  world.failure = "it does not answer";
  t.deepEqual(await world.settle(), []);
  t.regex(world.authority.problem!, /etcd of node-a is to be started again .* waits for that of node-c to be well/);
  t.regex(world.authority.problem!, /'overlayctl node demote node-c'/);
  world.failure = undefined;
  t.deepEqual(await world.settle(), ["c"]);
  world.members.get("c")!.condition = "well";
  t.deepEqual(await world.settle(), ["b", "a"]);
  t.is(world.authority.problem, undefined);
});

test("who holds a change up is named, with what to type; where none does, nothing is asked of a person", async (t) => {
  const world = new World();
  const { authority, members } = world;
  t.deepEqual(await authority.behind(), { names: [], reason: null });
  world.wanted = BOTH;
  t.deepEqual(await authority.behind(), { names: ["node-a", "node-b", "node-c"], reason: null });
  await world.settle();
  world.wanted = ISSUED;
  for (const name of ["a", "b"]) Object.assign(members.get(name)!, ISSUED);
  members.get("c")!.condition = "ended";
  const { names, reason } = await authority.behind();
  t.deepEqual(names, ["node-c"]);
  t.is(
    reason,
    "it waits for that of node-c to be well, and goes on by itself then ('overlayctl cluster status' says what is wrong); " +
      "a manager that does not come back is removed with 'overlayctl node demote node-c'",
  );
  members.get("c")!.condition = "well";
  world.failure = "its disk is full";
  await world.settle();
  t.is((await authority.behind()).reason, "the etcd of node-c has not taken the store's CAs yet: its disk is full");
});

test("a member that slept through the whole change takes the end of it", async (t) => {
  const world = new World();
  for (const id of ["a", "b"]) Object.assign(world.members.get(id)!, NEW);
  world.wanted = NEW;
  world.members.get("c")!.condition = "ended";
  t.deepEqual(await world.settle(), ["c"]);
});

test("a store that is as it should be is looked at seldom, and at once when the state is another", async (t) => {
  const world = new World();
  await world.settle();
  const { looks } = world;
  await world.settle();
  t.is(world.looks, looks);
  await world.clock.advance(10_000);
  await world.settle();
  t.is(world.looks, looks + 1);
  world.wanted = BOTH;
  t.deepEqual(await world.settle(), ["b", "c", "a"]);
});

test("a change does not begin while a member is not well, and says which and what to do", async (t) => {
  const world = new World();
  await t.notThrowsAsync(world.authority.requireReady());
  world.members.get("b")!.condition = "damaged";
  await t.throwsAsync(world.authority.requireReady(), {
    instanceOf: UserError,
    message:
      /not so is that of node-b: 'overlayctl cluster status' says why; 'overlayctl ca rotate nodes' changes the other/,
  });
});

test("an external etcd has a CA of its own", async (t) => {
  const world = new World();
  world.wanted = undefined;
  await t.throwsAsync(world.authority.requireReady(), { message: /external etcd has certificates of its own/ });
  t.deepEqual(await world.authority.notTrustingBoth(), []);
  t.deepEqual(await world.settle(), []);
});
