// What a container's /etc says: from its options, the overlay and the node.
import test from "ava";
import { containerNaming, hostnameOf, type NodeNaming } from "../../src/cluster/container-naming.ts";
import { Naming, type NamingInput } from "../../src/cluster/naming.ts";
import { networkRow, nodeRow, serviceRow, taskRow } from "../dns/example-state.ts";

const networks = [
  networkRow("Web", 3, "10.192.16.0/20", "10.192.16.1"),
  networkRow("back", 4, "10.192.32.0/20", "10.192.32.1"),
];
const node: NodeNaming = {
  domain: "overlay",
  resolver: { nameservers: ["192.0.2.1"], search: ["corp.example", "back.overlay"], options: ["edns0", "trust-ad"] },
};
const OWN = ["web.overlay", "back.overlay"];

const resolvers: [title: string, dns: NamingInput["dns"], search: string[], options: string[]][] = [
  ["nothing is asked for", undefined, [...OWN, "corp.example"], ["edns0", "trust-ad", "ndots:0"]],
  ["search domains are", { search: ["lab.example"] }, [...OWN, "lab.example"], ["edns0", "trust-ad", "ndots:0"]],
  ["no search domains are", { search: [] }, [], ["edns0", "trust-ad", "ndots:0"]],
  ["options are", { options: ["rotate"] }, [...OWN, "corp.example"], ["rotate", "ndots:0"]],
  ["ndots is", { options: ["ndots:3"] }, [...OWN, "corp.example"], ["ndots:3"]],
  ["name servers are", { servers: ["192.0.2.53"] }, [...OWN, "corp.example"], ["edns0", "trust-ad", "ndots:0"]],
];
for (const [title, dns, search, options] of resolvers) {
  test(`resolv.conf names the gateway, and has the overlay's domains before others, when ${title}`, (t) => {
    const { resolver } = containerNaming(Naming.parse({ dns }), null, networks, node);
    t.deepEqual(resolver, { nameservers: ["10.192.16.1"], search, options });
  });
}

test("host-gateway is the gateway of the first network", (t) => {
  const hosts = [
    { name: "node", address: "host-gateway" },
    { name: "db", address: "192.0.2.7" },
  ];
  const naming = Naming.parse({ hosts });
  t.deepEqual(containerNaming(naming, null, networks, node).hosts, [
    { name: "node", address: "10.192.16.1" },
    { name: "db", address: "192.0.2.7" },
  ]);
});

test("a task's hostname has its placeholders filled in", (t) => {
  const service = serviceRow("search", { networks: [] });
  const task = taskRow("search", 2, {});
  t.is(hostnameOf(service, task, nodeRow("node1", "192.0.2.11", "10.192.0.2")), null);
  const naming = Naming.parse({ hostname: "{{.Task.Name}}--{{.Node.Hostname}}" });
  const named = { ...service, workload: { ...service.workload!, naming } };
  t.is(hostnameOf(named, task, nodeRow("node1", "192.0.2.11", "10.192.0.2")), `search.2.${task.id}--node1`);
});
