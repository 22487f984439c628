// What nothing in the cluster can be named.
import test from "ava";
import { Command, type CommandInput } from "../../src/cluster/commands.ts";
import { requireUnreserved, withoutReserved } from "../../src/leader/reserved-names.ts";
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
  ["a network under the domain", { type: "network.create", name: "web.Cluster" }, "name"],
  ["a network under localhost", { type: "network.create", name: "x.localhost" }, "name"],
  ["an alias under the domain", { ...attach, aliases: ["search.web.cluster"] }, "aliases"],
  ["an alias of another's tasks", { ...attach, aliases: ["Tasks.search"] }, "aliases"],
  ["an alias of another's port", { ...attach, aliases: ["_9200._tcp.search"] }, "aliases"],
  ["an alias under in-addr.arpa", { ...attach, aliases: ["2.16.192.10.in-addr.arpa"] }, "aliases"],
  ["a container under onion", { ...attach, name: "a.onion" }, "name"],
  ["an alias with dots", { ...attach, aliases: ["db.corp.example", "tasks-db.corp", "_odd"] }, undefined],
  ["a container that an operator named so in Docker", { ...attach, hostNames: ["ns"] }, undefined],
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
  ["an alias of another's task", { ...attach, aliases: ["search.1"] }, "aliases"],
  ["an alias that is an address", { ...attach, aliases: ["10.0.0.1"] }, "aliases"],
  ["a container named as an address", { ...attach, name: "1.0xA" }, "name"],
  ["a service whose name begins with digits", { ...service, name: "12a" }, undefined],
  ["an attached container whose id is digits", { ...attach, hostNames: ["123456789012"] }, undefined],
];
for (const [title, input, field] of addresses) {
  test(`${title} is ${field === undefined ? "taken" : "refused: it would be read as an address"}`, (t) => {
    const check = () => requireUnreserved(Command.parse(input), "cluster");
    if (field === undefined) t.notThrows(check);
    else
      t.like(t.throws(check, { instanceOf: UserError, message: /programs read it as an address, or as a task$/ }), {
        field,
      });
  });
}

test("what Docker calls a container is left out where it is reserved, and nothing else of it", (t) => {
  const hostNames = [
    "app",
    "Cluster",
    "tasks.search",
    "search.1",
    "x.cluster",
    "a.invalid",
    "project_db.v2",
    "123456789012",
  ];
  const kept = withoutReserved(Command.parse({ ...attach, hostNames }), "cluster");
  t.deepEqual(kept, Command.parse({ ...attach, hostNames: ["app", "project_db.v2", "123456789012"] }));
});

const docker: [title: string, command: CommandInput, fault: RegExp | undefined][] = [
  ["a service of a stack", { ...service, name: "stack_web" }, undefined],
  ["a service with `_` and `-` in a row", { ...service, name: "A_-_b" }, undefined],
  ["a service that begins with `_`", { ...service, name: "_web" }, /begins and ends with a letter or digit/],
  ["a service that ends with `-`", { ...service, name: "web-" }, /begins and ends with a letter or digit/],
  ["a service with a dot", { ...service, name: "web.1x" }, /a name has letters, digits, '-' and '_'/],
  ["a service of 64 characters", { ...service, name: "a".repeat(64) }, /at most 63 characters/],
  ["a network of a stack", { type: "network.create", name: "stack_default" }, undefined],
  ["a network with a dot", { type: "network.create", name: "back.end_v1x" }, undefined],
  ["a network with an empty label", { type: "network.create", name: "back..end" }, /between dots/],
  ["a network that ends with a dot", { type: "network.create", name: "web." }, /between dots/],
  ["a container's name", { ...attach, name: "project_db-v1.main" }, undefined],
  ["a container's name with a blank", { ...attach, name: "my db" }, /between dots/],
  ["a container's name that begins with a dot", { ...attach, name: ".db" }, /between dots/],
  ["a container's name that begins with `_`", { ...attach, name: "_db" }, /begins with a letter or digit/],
  ["an alias of 253 characters", { ...attach, aliases: [`${"a.".repeat(126)}b`] }, undefined],
  ["an alias of 254 characters", { ...attach, aliases: [`${"a.".repeat(126)}bb`] }, /at most 253 characters/],
  ["an alias with a label of 64", { ...attach, aliases: [`db.${"a".repeat(64)}`] }, /between dots 63 at most/],
  ["an alias with a line feed", { ...attach, aliases: ["db\n"] }, /between dots/],
];
for (const [title, input, fault] of docker) {
  test(`${title} is ${fault === undefined ? "a name, as Docker takes it" : "no name"}`, (t) => {
    const { error } = Command.safeParse(input);
    if (fault === undefined) t.is(error, undefined);
    else t.regex(error?.issues[0]?.message ?? "", fault);
  });
}

test("the leader refuses them", async (t) => {
  const { leader } = await Cluster.start(1);
  await t.throwsAsync(leader.execute({ ...service, name: "overlay" }), {
    message: "'overlay' is a name of DNS itself: it is in the cluster's domain",
  });
});
