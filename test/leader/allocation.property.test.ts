// Whatever order requests, failures, losses, returns and restarts come in: nothing is held twice, nothing lies outside
// its subnet, nothing is given away too soon, and all that is released can be had again.
import test from "ava";
import fc from "fast-check";
import type { AskedPortInput, CommandInput } from "../../src/cluster/commands.ts";
import type { TaskState } from "../../src/cluster/schema.ts";
import type { WorkloadInput } from "../../src/cluster/workload.ts";
import { cidr } from "../../src/lib/ip.ts";
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
import { reusedTooSoon, violationsOf } from "./invariants.ts";

const POOL = "10.192.0.0/17";

type Step =
  | { kind: "execute"; command: CommandInput }
  | { kind: "endpoint"; node: number; network: string; name: string }
  | {
      kind: "attach";
      node: number;
      container: number;
      service: string | null;
      port: AskedPortInput;
    }
  | ClusterStep;

const name = fc.constantFrom("a", "b", "c");
const network = fc.constantFrom("n1", "n2", "n3", "default");
const subnet = fc.constantFrom("10.192.64.0/29", "10.192.64.8/29", "10.192.64.0/28", "10.192.80.0/26", undefined);
const replicas = fc.integer({ min: 0, max: 6 });
const port = fc.record({
  published: fc.option(fc.integer({ min: 9000, max: 9002 }), { freq: 4 }),
  target: fc.constant(80),
  mode: fc.constantFrom("ingress" as const, "ingress" as const, "host" as const),
  address: fc.constantFrom(null, null, "192.0.2.11", "192.0.2.12"),
});

const command: fc.Arbitrary<CommandInput> = fc.oneof(
  fc.record({ type: fc.constant("network.create" as const), name: network, subnet }),
  fc.record({ type: fc.constant("network.remove" as const), name: network }),
  fc.record({
    type: fc.constant("service.create" as const),
    name,
    workload: fc.constant<WorkloadInput>({ runtime: "process", command: ["true"] }),
    replicas,
    networks: fc.array(network, { maxLength: 2 }),
    endpointMode: fc.constantFrom("vip" as const, "dnsrr" as const),
    ports: fc.array(port, { maxLength: 2 }),
  }),
  fc.record({ type: fc.constant("service.scale" as const), name, replicas }),
  fc.record({ type: fc.constant("service.remove" as const), name }),
  fc.record({ type: fc.constant("endpoint.remove" as const), id: fc.constantFrom("e1", "e2", "e3") }),
  fc.record({
    type: fc.constant("node.availability" as const),
    name: node.map((i) => `node${i + 1}`),
    availability: fc.constantFrom("active" as const, "drain" as const),
  }),
  fc.record({ type: fc.constant("node.remove" as const), name: node.map((i) => `node${i + 1}`) }),
);

const taskState = fc.constantFrom<TaskState>(
  "preparing",
  "running",
  "running",
  "failed",
  "rejected",
  "shutdown",
  "complete",
);
const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 8, arbitrary: fc.record({ kind: fc.constant("execute" as const), command }) },
  {
    weight: 2,
    arbitrary: fc.record({
      kind: fc.constant("endpoint" as const),
      node,
      network,
      name: fc.constantFrom("e1", "e2", "e3"),
    }),
  },
  {
    weight: 3,
    arbitrary: fc.record({
      kind: fc.constant("attach" as const),
      node,
      container: fc.integer({ min: 0, max: 9 }),
      service: fc.option(name),
      port,
    }),
  },
  { weight: 2, arbitrary: detach(5) },
  { weight: 5, arbitrary: joinOrApply },
  { weight: 2, arbitrary: lose },
  { weight: 6, arbitrary: report(taskState) },
  { weight: 1, arbitrary: restart },
  { weight: 1, arbitrary: full },
  { weight: 2, arbitrary: pass(3) },
);

async function take(cluster: Cluster, taken: Step): Promise<void> {
  const { leader, nodes } = cluster;
  switch (taken.kind) {
    case "execute":
      return allowed(leader.execute(taken.command));
    case "endpoint": {
      const { id } = nodes[taken.node]!;
      if (id === undefined) return;
      const { network, name } = taken;
      return allowed(leader.execute({ type: "endpoint.create", node: id, network, name }));
    }
    case "attach": {
      const { id } = nodes[taken.node]!;
      if (id === undefined) return;
      const { container, service, port } = taken;
      const subject = String(container).repeat(64);
      const ports = service === null ? [] : [port];
      return allowed(leader.execute({ type: "attach", node: id, subject, subjectName: "c", service, ports }));
    }
    case "detach": {
      const id = attached(cluster)[taken.index];
      return id === undefined ? undefined : allowed(leader.execute({ type: "detach", id }));
    }
    case "join":
      return allowed(nodes[taken.node]!.join(leader));
    case "report": {
      let i = 0;
      return allowed(nodes[taken.node]!.report(() => taken.states[i++ % taken.states.length]));
    }
    case "restart":
      await leader.stop();
      return cluster.lead();
    default:
      return takePlain(cluster, taken);
  }
}

function attached({ leader: { state } }: Cluster): string[] {
  const rows = [...state.tasks.values(), ...state.endpoints.values()];
  return rows.filter(({ attachment }) => attachment !== null).map(({ id }) => id);
}

function requireSound(cluster: Cluster): void {
  const { state } = cluster.leader;
  const wrong = violationsOf(state, cidr(POOL));
  for (const fake of cluster.nodes) {
    const row = state.nodes.get(fake.id ?? "");
    // A node that the leader gave up is told everything anew when it is back.
    if (row === undefined || row.state === "down") fake.applied = undefined;
    if (fake.applied !== undefined) wrong.push(...reusedTooSoon(state, fake.applied));
  }
  if (wrong.length > 0) throw new Error(wrong.join("\n"));
}

/** All nodes come back, all that was asked for is taken back, and the nodes do as they are told. */
async function removeAll(cluster: Cluster): Promise<void> {
  const { leader, nodes, store } = cluster;
  store.full = false;
  // One that was removed waits until the others have heard that its address is free.
  for (const fake of nodes) await allowed(fake.join(leader));
  await cluster.settle();
  for (const fake of nodes) if (!fake.joined) await fake.join(leader);
  await cluster.settle();
  for (const id of attached(cluster)) await leader.execute({ type: "detach", id });
  for (const { id } of leader.state.services.values()) await leader.execute({ type: "service.remove", name: id });
  for (const { id } of leader.state.endpoints.values()) await leader.execute({ type: "endpoint.remove", id });
  await cluster.settle();
  for (const { id, name } of leader.state.networks.values()) {
    if (name.startsWith("n")) await leader.execute({ type: "network.remove", name: id });
  }
  await cluster.settle();
}

async function fillSmallestNetwork(cluster: Cluster): Promise<string[]> {
  const { leader } = cluster;
  await leader.execute({ type: "network.create", name: "small", subnet: "10.192.64.0/29" });
  for (let i = 0; i < 5; i++) {
    await leader.execute({ type: "endpoint.create", node: cluster.nodes[0]!.id!, network: "small" });
  }
  const addresses = [...leader.state.endpoints.values()].map(({ address }) => address);
  for (const { id } of leader.state.endpoints.values()) await leader.execute({ type: "endpoint.remove", id });
  await leader.execute({ type: "network.remove", name: "small" });
  await cluster.settle();
  return addresses.toSorted();
}

test("no address, VIP, VNI or port is ever held twice, and all that is released is usable again", async (t) => {
  const seed = Number(process.env.SEED ?? Date.now() % 2 ** 31);
  t.log(`SEED=${seed}`);
  await fc.assert(
    fc.asyncProperty(fc.array(step, { minLength: 20, maxLength: 80 }), async (steps) => {
      const cluster = await Cluster.start(NODES, { settings: { pool: POOL } });
      for (const taken of steps) {
        await take(cluster, taken);
        requireSound(cluster);
      }
      await removeAll(cluster);
      requireSound(cluster);
      const { allocations, ports, tasks, networks, nodes } = cluster.leader.state;
      t.deepEqual([ports.size, tasks.size, networks.size], [0, 0, 2]);
      t.is(allocations.size, 2 + nodes.size);
      const all = ["10.192.64.2", "10.192.64.3", "10.192.64.4", "10.192.64.5", "10.192.64.6"];
      t.deepEqual(await fillSmallestNetwork(cluster), all);
      t.deepEqual(await fillSmallestNetwork(cluster), all);
    }),
    { numRuns: 150, seed },
  );
});
