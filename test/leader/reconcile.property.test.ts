// The law of the scheduler: what changed says only where to look. Whatever order commands, reports, losses and returns come
// in, a look at everything finds nothing that the looks at what was touched have left.
import test from "ava";
import fc from "fast-check";
import type { AskedPortInput, CommandInput } from "../../src/cluster/commands.ts";
import { Features } from "../../src/cluster/features.ts";
import type { TaskState } from "../../src/cluster/schema.ts";
import { Draft } from "../../src/cluster/state.ts";
import type { WorkloadInput } from "../../src/cluster/workload.ts";
import { Addresses } from "../../src/leader/ipam.ts";
import { reconcile } from "../../src/leader/scheduler.ts";
import { allTouched } from "../../src/leader/touched.ts";
import { UserError } from "../../src/lib/errors.ts";
import { Cluster } from "./cluster-fixture.ts";
import {
  allowed,
  type ClusterStep,
  detach,
  full,
  joinOrApply,
  lose,
  NODES,
  node,
  pass,
  report,
  restart,
  takePlain,
} from "./cluster-steps.ts";

type Step =
  | { kind: "execute"; commands: CommandInput[] }
  | { kind: "attach"; node: number; container: number; service: string }
  | ClusterStep;

const nodeName = node.map((i) => `node${i + 1}`);
const name = fc.constantFrom("a", "b", "c");
const replicas = fc.integer({ min: 0, max: 7 });
const command: fc.Arbitrary<CommandInput> = fc.oneof(
  fc.record({
    type: fc.constant("service.create" as const),
    name,
    workload: fc.constant<WorkloadInput>({ runtime: "process", command: ["true"] }),
    replicas,
    networks: fc.constantFrom<string[]>([], ["tiny"]),
    ports: fc.constantFrom<AskedPortInput[]>([], [{ published: 80, target: 80, mode: "host" }]),
    constraints: fc.constantFrom<string[]>([], ["node.name!=node1"], ["node.name==node2"]),
  }),
  fc.record({ type: fc.constant("service.scale" as const), name, replicas }),
  fc.record({ type: fc.constant("service.remove" as const), name }),
  fc.record({
    type: fc.constant("node.availability" as const),
    name: nodeName,
    availability: fc.constantFrom("active" as const, "drain" as const),
  }),
  fc.record({ type: fc.constant("node.remove" as const), name: nodeName }),
);
const taskState = fc.constantFrom<TaskState>("preparing", "running", "running", "running", "failed", "shutdown");
const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 8,
    arbitrary: fc.record({
      kind: fc.constant("execute" as const),
      commands: fc.array(command, { minLength: 1, maxLength: 3 }),
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({ kind: fc.constant("attach" as const), node, container: fc.nat(5), service: name }),
  },
  { weight: 1, arbitrary: detach(3) },
  { weight: 6, arbitrary: joinOrApply },
  { weight: 1, arbitrary: lose },
  { weight: 8, arbitrary: report(taskState) },
  { weight: 1, arbitrary: restart },
  { weight: 1, arbitrary: full },
  { weight: 2, arbitrary: pass(5) },
);

/** What the test knows of the leader's sessions: the nodes that have reported in full, and how far they were. */
class Heard {
  readonly reported = new Set<string>();
  readonly applied = new Map<string, number>();

  clear(nodeId: string | undefined): void {
    this.reported.delete(nodeId ?? "");
    this.applied.delete(nodeId ?? "");
  }
}

async function take(cluster: Cluster, heard: Heard, taken: Step): Promise<void> {
  const { leader, nodes } = cluster;
  switch (taken.kind) {
    case "execute":
      await Promise.all(taken.commands.map((command) => allowed(leader.execute(command))));
      return;
    case "attach": {
      const { id } = nodes[taken.node]!;
      if (id === undefined) return;
      const subject = String(taken.container).repeat(64);
      const { service } = taken;
      return allowed(leader.execute({ type: "attach", node: id, subject, subjectName: "c", service }));
    }
    case "detach": {
      const task = [...leader.state.tasks.values()].filter(({ attachment }) => attachment !== null)[taken.index];
      return task && allowed(leader.execute({ type: "detach", id: task.id }));
    }
    case "join":
      await allowed(nodes[taken.node]!.join(leader));
      if (nodes[taken.node]!.joined) heard.clear(nodes[taken.node]!.id);
      return;
    case "report": {
      const fake = nodes[taken.node]!;
      if (!fake.joined || fake.state === undefined) return;
      let i = 0;
      try {
        await fake.report(() => taken.states[i++ % taken.states.length]);
        heard.reported.add(fake.id!);
        heard.applied.set(fake.id!, Math.max(heard.applied.get(fake.id!) ?? 0, fake.applied?.revision ?? 0));
      } catch (error) {
        if (!(error instanceof UserError)) throw error;
      }
      return;
    }
    case "restart":
      await leader.stop();
      for (const { id } of nodes) heard.clear(id);
      return cluster.lead();
    default:
      return takePlain(cluster, taken);
  }
}

/** What a look at everything would change. */
function leftIn({ leader: { state }, clock, store }: Cluster, heard: Heard): string[] {
  if (store.full) return [];
  const draft = new Draft(state);
  let ids = 0;
  reconcile(draft, allTouched(state), {
    now: clock.now(),
    newId: () => `new${ids++}`,
    addresses: new Addresses(),
    features: new Features(),
    isReported: (nodeId) => heard.reported.has(nodeId),
    applied: 0,
    drainedMs: () => 0,
  });
  return draft.changes.map((change) => JSON.stringify(change));
}

test("after any commands and reports, a look at everything finds nothing to do", async (t) => {
  const seed = Number(process.env.SEED ?? Date.now() % 2 ** 31);
  t.log(`SEED=${seed}`);
  await fc.assert(
    fc.asyncProperty(fc.array(step, { minLength: 20, maxLength: 80 }), async (steps) => {
      const cluster = await Cluster.start(NODES);
      await cluster.leader.execute({ type: "network.create", name: "tiny", subnet: "10.192.64.0/28" });
      const heard = new Heard();
      for (const { id } of cluster.nodes) heard.reported.add(id!);
      for (const taken of steps) {
        const { full } = cluster.store;
        await take(cluster, heard, taken);
        // A session that the leader has ended is over for the node, too.
        for (const fake of cluster.nodes) if (!fake.joined) heard.clear(fake.id);
        // What a full disk kept from being done is done in the next turn that there is.
        if (full && !cluster.store.full)
          await allowed(cluster.leader.execute({ type: "network.create", name: "turn" }));
        const left = leftIn(cluster, heard);
        if (left.length > 0) throw new Error(`after ${JSON.stringify(taken)}:\n${left.join("\n")}`);
      }
    }),
    { numRuns: 200, seed },
  );
  t.pass();
});
