// What `overlayctl leave` says and refuses, by what the leader answers.
import test from "ava";
import { sayThatItLeaves } from "../../src/agent/leave.ts";
import { emptyState } from "../../src/cluster/state.ts";
import { UserError } from "../../src/lib/errors.ts";
import type { Session } from "../../src/session/session.ts";
import { Cluster } from "../leader/cluster-fixture.ts";

/** A node without tasks; `answer` is what comes of telling the leader. */
function nodeWith(answer: Error | undefined, rest: Partial<Pick<Session, "state" | "nodeId" | "connected">> = {}) {
  let asked = 0;
  const leave = async () => {
    asked++;
    if (answer !== undefined) throw answer;
  };
  const session = { state: emptyState(), nodeId: "n2", connected: true, ...rest } as unknown as Session;
  return { node: { session, leaderCalls: { leave } }, asked: () => asked };
}

const UNHEARD = new UserError(503, "no leader answers (192.0.2.11:2377: ECONNREFUSED)");
const WORKER = { role: "worker", name: "node2" } as const;

test("a node leaves once the leader has heard", async (t) => {
  const { node, asked } = nodeWith(undefined);
  t.deepEqual(await sayThatItLeaves({ ...node, ...WORKER, force: false }), { unheard: null });
  t.is(asked(), 1);
});

test("a leave of which no leader hears is refused, and --force leaves all the same and says so", async (t) => {
  const { node } = nodeWith(UNHEARD);
  await t.throwsAsync(sayThatItLeaves({ ...node, ...WORKER, force: false }), {
    instanceOf: UserError,
    message: /^no leader has heard that this node leaves \(no leader answers .*\): '--force' leaves all the same$/,
  });
  t.deepEqual(await sayThatItLeaves({ ...node, ...WORKER, force: true }), { unheard: UNHEARD.message });
});

test("a node without a session is told what it would lose before any leader is asked", async (t) => {
  const { node, asked } = nodeWith(undefined, { connected: false });
  await t.throwsAsync(sayThatItLeaves({ ...node, ...WORKER, force: false }), {
    message: /its copy of the cluster's state is removed while no leader answers; '--force' does it/,
  });
  t.is(asked(), 0);
});

for (const code of [401, 404] as const) {
  test(`a node that was removed leaves without a word (the leader answers ${code})`, async (t) => {
    const { node } = nodeWith(new UserError(code, "the node was removed from the cluster"));
    t.deepEqual(await sayThatItLeaves({ ...node, ...WORKER, force: true }), { unheard: null });
  });
}

test("the last manager has nobody to tell", async (t) => {
  const { leader } = await Cluster.start(2);
  const [node1] = leader.state.nodes.by("role", "manager");
  const { node, asked } = nodeWith(UNHEARD, { state: leader.state, nodeId: node1!.id });
  const manager = { role: "manager", name: "node1" } as const;
  await t.throwsAsync(sayThatItLeaves({ ...node, ...manager, force: false }), {
    message:
      /is the only manager, and the cluster ends with it: 0 services and .* are lost, and 1 other node has no leader any more/,
  });
  t.deepEqual(await sayThatItLeaves({ ...node, ...manager, force: true }), { unheard: null });
  t.is(asked(), 0);
});
