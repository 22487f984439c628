// What nothing in the cluster can be named.
import test from "ava";
import { Command, type CommandInput } from "../../src/cluster/commands.ts";
import { requireUnreserved } from "../../src/cluster/reserved-names.ts";
import { UserError } from "../../src/lib/errors.ts";
import { Cluster } from "./cluster-fixture.ts";

const ID = "a".repeat(25);
const service = { type: "service.create" as const, workload: { runtime: "process" as const, command: ["true"] } };
const external = { type: "external.add", network: "web", address: "10.192.16.9", mac: "02:00:5e:10:00:01" } as const;
const attach = { type: "attach", node: ID, subject: "netns:app", subjectName: "app" } as const;

const rows: [title: string, command: CommandInput, field: string | undefined][] = [
  ["a service named as the domain", { ...service, name: "Cluster" }, "name"],
  ["a service named tasks", { ...service, name: "tasks" }, "name"],
  ["an alias named ns", { ...service, name: "search", networks: [{ name: "web", aliases: ["db", "NS"] }] }, "aliases"],
  ["an endpoint named localhost", { type: "endpoint.create", node: ID, network: "web", name: "localhost" }, "name"],
  ["a host behind another's VTEP named ns", { ...external, name: "ns", vtep: "192.0.2.50" }, "name"],
  ["an attached container named tasks", { ...attach, name: "tasks" }, "name"],
  ["an attached container's alias", { ...attach, aliases: ["cluster"] }, "aliases"],
  ["an attached container's service", { ...attach, service: "ns" }, "service"],
  ["a network named arpa", { type: "network.create", name: "arpa" }, "name"],
  ["a container that somebody named so in Docker", { ...attach, hostNames: ["ns"] }, undefined],
  ["another domain's name", { ...service, name: "overlay" }, undefined],
  ["a name of JavaScript's", { ...service, name: "constructor" }, undefined],
  ["what exists is removed", { type: "service.remove", name: "tasks" }, undefined],
];
for (const [title, input, field] of rows) {
  test(`${title} is ${field === undefined ? "taken" : "refused"}`, (t) => {
    const check = () => requireUnreserved(Command.parse(input), "cluster");
    if (field === undefined) {
      t.notThrows(check);
      return;
    }
    const error = t.throws(check, { instanceOf: UserError, message: /is a name of DNS itself: / });
    t.like(error, { code: 400, field });
  });
}

const addresses: [title: string, command: CommandInput, field: string | undefined][] = [
  ["a service named 12", { ...service, name: "12" }, "name"],
  ["a service named 0x1F", { ...service, name: "0x1F" }, "name"],
  ["an alias that is a number", { ...service, name: "search", networks: [{ name: "web", aliases: ["7"] }] }, "aliases"],
  ["a service whose name begins with digits", { ...service, name: "12a" }, undefined],
  ["an attached container whose id is digits", { ...attach, hostNames: ["123456789012"] }, undefined],
];
for (const [title, input, field] of addresses) {
  test(`${title} is ${field === undefined ? "taken" : "refused: it would be read as an address"}`, (t) => {
    const check = () => requireUnreserved(Command.parse(input), "cluster");
    if (field === undefined) t.notThrows(check);
    else t.like(t.throws(check, { instanceOf: UserError, message: /programs read it as an address$/ }), { field });
  });
}

test("the leader refuses them", async (t) => {
  const { leader } = await Cluster.start(1);
  await t.throwsAsync(leader.execute({ ...service, name: "overlay" }), {
    message: "'overlay' is a name of DNS itself: it is the cluster's domain",
  });
});
