// A leader gives way to a manager of a newer epoch: it asks soon after a node has said that there is one, and believes the manager
// alone.
import test, { type ExecutionContext } from "ava";
import type { Identity } from "../../src/agent/identity.ts";
import { SuccessorWatch } from "../../src/agent/successor.ts";
import { managersOf } from "../../src/cluster/managers.ts";
import type { ManagerReport } from "../../src/leader/manager-protocol.ts";
import { joining } from "../fakes/founding.ts";
import { Cluster } from "../leader/cluster-fixture.ts";
import { deafSink, identityOf } from "../leader/fake-node.ts";

const NEWER = 1_000_000;

/** The leader at node1, which looks for a successor; `answers` is what the managers at node2 and node3 say of themselves. */
async function watching(t: ExecutionContext, answers: Partial<ManagerReport> = {}, given: string[] = []) {
  let heard = 0;
  const cluster = await Cluster.start(1, {
    heardOfNewerEpoch: () => {
      heard++;
      watch.askNow();
    },
  });
  const { clock, leader } = cluster;
  const [self] = managersOf(leader.state);
  const identities = [2, 3].map((i) => ({
    ...identityOf(i),
    manager: true,
    listen: { address: "0.0.0.0", port: 2377 },
  }));
  for (const identity of identities) await leader.admit(joining(identity));
  const own = leader.state.cluster!;
  const asked: string[] = [];
  const report = async (manager: string) => {
    asked.push(manager);
    return { node: "node2", role: "standby", cluster: own, ...answers } as ManagerReport;
  };
  const identity = { managers: [self!, ...given] } as unknown as Identity;
  const asking = { calls: { report } as never, state: () => leader.state, self: self!, identity };
  const watch = new SuccessorWatch(asking, clock);
  const over = new AbortController();
  const found: ManagerReport[] = [];
  void watch.find(() => own, over.signal).then((successor) => found.push(successor));
  await clock.advance(2000);
  t.is(asked.length, 2 + given.length, "it asks all of them by itself");
  const nodeId = [...leader.state.nodes.values()].find(({ name }) => name === "node3")!.id;
  /** node3 asks for a session, and says what it follows. */
  const says = async (known: { id: string; epoch: number; revision: number } | null) =>
    leader.sessions.open({ id: nodeId }, { ...identities[1]!, protocol: 1, known }, deafSink);
  t.teardown(async () => {
    over.abort();
    await clock.advance(2000);
    await leader.stop();
  });
  return { clock, leader, own, asked, found, says, heard: () => heard };
}

test("a node that follows a newer epoch makes the leader ask the other managers at once, and find the one that leads", async (t) => {
  const answers: Partial<ManagerReport> = {};
  const { clock, own, asked, found, says } = await watching(t, answers);
  const cluster = { id: own.id, epoch: own.epoch + 1 };
  Object.assign(answers, { role: "leader", cluster });
  await t.throwsAsync(says({ ...cluster, revision: 7 }), { message: /its state is older than that of this node/ });
  await clock.advance(250);
  t.is(asked.length, 4);
  t.like(found[0], { node: "node2", cluster });
});

test("a manager that a join has named, and that is not in the state, is asked too", async (t) => {
  const answers: Partial<ManagerReport> = {};
  const { clock, own, asked, found } = await watching(t, answers, ["192.0.2.99:2377"]);
  t.true(asked.includes("192.0.2.99:2377"));
  Object.assign(answers, { role: "leader" });
  await clock.advance(2000);
  t.deepEqual(found, [], "it leads in the same epoch");
  Object.assign(answers, { cluster: { id: own.id, epoch: own.epoch + 1 } });
  await clock.advance(2000);
  t.is(found.length, 1);
});

test("a node that makes up an epoch deposes nobody, and has the managers asked four times a second at most", async (t) => {
  const { clock, leader, own, asked, found, says, heard } = await watching(t);
  for (let i = 0; i < 100; i++) {
    await t.throwsAsync(says({ id: own.id, epoch: NEWER + i, revision: 1 }));
    await clock.advance(20);
  }
  t.is(heard(), 100);
  t.true(asked.length <= 2 + 2 * 8, `${asked.length} questions`);
  t.deepEqual(found, []);
  t.notThrows(() => leader.requireLeading());
});

test("an older epoch, another cluster and a node without a state are no reason to ask", async (t) => {
  const { own, says, heard } = await watching(t);
  await says({ ...own, revision: 0 });
  await says(null);
  await t.throwsAsync(says({ id: "x".repeat(25), epoch: own.epoch + 1, revision: 1 }), {
    message: /leads another cluster/,
  });
  t.is(heard(), 0);
});

test("a standby whose copy is of a newer epoch is a reason to ask", async (t) => {
  const { clock, leader, own, heard } = await watching(t);
  const copied = leader.copies.answer({ cluster: { id: own.id, epoch: own.epoch + 1 }, revision: 5 });
  await clock.advance(1);
  t.like(await copied, { cluster: own });
  t.is(heard(), 1);
});

for (const [title, answers] of [
  ["follows a newer epoch and does not lead", { role: "standby" }],
  ["leads another cluster", { role: "leader", cluster: { id: "another", epoch: NEWER } }],
  ["leads in this leader's own epoch", { role: "leader" }],
] as const) {
  test(`a manager that ${title} is no successor`, async (t) => {
    const { clock, own, found, says } = await watching(t, answers as Partial<ManagerReport>);
    await t.throwsAsync(says({ id: own.id, epoch: NEWER, revision: 1 }));
    await clock.advance(4000);
    t.deepEqual(found, []);
  });
}
