// Names on one network: the second service or container with a name is refused, in either order.
import test from "ava";
import type { CommandInput } from "../../src/cluster/commands.ts";
import { Cluster } from "./cluster-fixture.ts";

const workload = { runtime: "process" as const, command: ["true"] };
const A = "a".repeat(64);
const attached = { type: "attach", subject: A, subjectName: "c", network: "web" } as const;

/** The ways in which a container, service or host is found as `db`; the second time with capitals. */
const kinds: { what: string; isAlias?: boolean; take(name: string, node: string): CommandInput }[] = [
  {
    what: "a service's name",
    take: (name) => ({ type: "service.create", name, workload, networks: ["web"] }),
  },
  {
    what: "a service's alias",
    isAlias: true,
    take: (name) => ({ type: "service.create", name: "other", workload, networks: [{ name: "web", aliases: [name] }] }),
  },
  { what: "a container's name", take: (name, node) => ({ type: "endpoint.create", node, network: "web", name }) },
  {
    what: "an external host's name",
    take: (name) => ({
      type: "external.add",
      network: "web",
      name,
      address: "10.192.32.50",
      mac: "02:00:5e:10:00:01",
      vtep: "192.0.2.50",
    }),
  },
  { what: "an attached container's name", take: (name, node) => ({ ...attached, node, name }) },
  {
    what: "an attached container's alias",
    isAlias: true,
    take: (name, node) => ({ ...attached, subject: "b".repeat(64), node, aliases: [name] }),
  },
  {
    what: "the alias of an attached container of a service",
    isAlias: true,
    take: (name, node) => ({ ...attached, subject: "c".repeat(64), node, service: "third", aliases: [name] }),
  },
  {
    what: "the name of a service of attached containers",
    take: (name, node) => ({ ...attached, subject: "d".repeat(64), node, service: name }),
  },
];

async function start(): Promise<Cluster> {
  const cluster = await Cluster.start(1);
  for (const name of ["web", "back"]) await cluster.leader.execute({ type: "network.create", name });
  return cluster;
}

for (const first of kinds) {
  for (const second of kinds) {
    if (first === second) continue;
    const mayShare = first.isAlias === true && second.isAlias === true;
    test(`after ${first.what}, ${second.what} ${mayShare ? "may be the same" : "is refused"}`, async (t) => {
      const cluster = await start();
      const node = cluster.node("node1").id;
      await cluster.leader.execute(first.take("db", node));
      // A container is attached to a service of that name: then it is one of its tasks.
      if (first.what === "a service's name" && second.what.startsWith("the name of a service")) return t.pass();
      if (first.what.startsWith("the name of a service") && second.what === "a service's name") {
        await t.throwsAsync(cluster.leader.execute(second.take("DB", node)), { message: /exists already/ });
        return;
      }
      const taking = cluster.leader.execute(second.take("DB", node));
      if (mayShare) await t.notThrowsAsync(taking);
      else await t.throwsAsync(taking, { message: /(has a service|has an endpoint|is an alias of).*already/ });
    });
  }
}

test("a name of another network is free", async (t) => {
  const cluster = await start();
  await cluster.leader.execute({
    type: "endpoint.create",
    node: cluster.node("node1").id,
    network: "back",
    name: "db",
  });
  await t.notThrowsAsync(cluster.leader.execute({ type: "service.create", name: "db", workload, networks: ["web"] }));
});

test("names that a container has anyway take none from others", async (t) => {
  const cluster = await start();
  const node = cluster.node("node1").id;
  await cluster.leader.execute({ ...attached, node, hostNames: ["db"] });
  await t.notThrowsAsync(cluster.leader.execute({ type: "service.create", name: "db", workload, networks: ["web"] }));
  await t.notThrowsAsync(cluster.leader.execute({ ...attached, subject: "b".repeat(64), node, hostNames: ["db"] }));
});
