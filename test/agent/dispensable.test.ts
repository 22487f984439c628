// Why the managers cannot do without one of them, as an operator reads it.
import test, { type ExecutionContext } from "ava";
import { requireDispensable } from "../../src/agent/dispensable.ts";
import type { LeadingManager } from "../../src/agent/member-agents.ts";
import type { Node } from "../../src/cluster/schema.ts";
import type { MemberCondition } from "../../src/leader/etcd-members.ts";
import { UserError } from "../../src/lib/errors.ts";

interface Situation {
  /** The members of etcd, whose nodes have the same names, and how they are. */
  members: Record<string, MemberCondition>;
  /** Those that are no managers any more. */
  workers?: readonly string[];
}

/** What `requireDispensable` says of one. */
async function refusal(t: ExecutionContext, name: string, isRemoved: boolean, situation: Situation): Promise<string> {
  const { members, workers = [] } = situation;
  const rows = Object.keys(members).map((id) => ({
    ...{ id, name: id, role: workers.includes(id) ? "worker" : "manager" },
    advertise: { address: id, port: 0 },
  }));
  const nodes = new Map(rows.map((row) => [row.id, row]));
  const by = () => rows.filter(({ role }) => role === "manager");
  const leading = {
    options: { calls: { member: (at: string) => ({ condition: async () => members[at.slice(0, -":0".length)] }) } },
    manager: {
      kind: "etcd",
      member: { name: "nobody" },
      access: { client: { members: async () => rows.map(({ id }) => ({ name: id, isLearner: false })) } },
    },
    leader: { state: { nodes: Object.assign(nodes, { by }) }, requireLeading: () => {} },
  } as unknown as LeadingManager;
  const asked = requireDispensable(leading, nodes.get(name) as unknown as Node, isRemoved);
  return (await t.throwsAsync(asked, { instanceOf: UserError }))!.message;
}

test("the refusal names those without which there would be no majority", async (t) => {
  const members = { a: "well", b: "well", c: "ended" } as const;
  t.is(
    await refusal(t, "b", false, { members }),
    "without node 'b' the managers would have no majority: 1 of 2 is well, not so c; start those first, or remove them first",
  );
});

test("it says of one that is no manager any more that its etcd is being removed", async (t) => {
  const members = { a: "well", b: "well", c: "damaged" } as const;
  t.regex(
    await refusal(t, "b", true, { members, workers: ["c"] }),
    /1 of 2 is well, not so c \(its etcd is being removed: try again in a moment\)/,
  );
});

test("one of two is demoted before its node is removed", async (t) => {
  const members = { a: "well", b: "well" } as const;
  t.regex(await refusal(t, "b", true, { members }), /is one of two managers.*'overlayctl node demote b' first/);
});
