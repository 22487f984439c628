// Names of containers that were attached: their own, their aliases, and only while they run.
import test from "ava";
import type { Change, TaskState } from "../../src/cluster/schema.ts";
import { Names } from "../../src/dns/names.ts";
import { formatIpv4, ipv4 } from "../../src/lib/ip.ts";
import { applyChanges } from "../fakes/apply-changes.ts";
import { exampleState, idOf, nodeRow, statusRow, taskRow } from "./example-state.ts";

const WEB = idOf("web");
const attachment = {
  subject: "a".repeat(64),
  name: "app_db_1",
  image: null,
  aliases: ["db", "app_db_1"],
  hostNames: [],
};

function withAttached(state: TaskState, nodeState: "ready" | "down" = "ready") {
  const task = { ...taskRow("search", 7, { [WEB]: "10.192.16.77" }), attachment };
  const place = { nodeId: idOf("node1"), networkId: WEB, address: "10.192.16.78" };
  const endpoint = { id: idOf("attached"), name: null, ...place, attachment: { ...attachment, aliases: ["cache"] } };
  const external = { mac: "02:00:5e:10:00:01", vtep: "192.0.2.50", port: 4789 };
  const printer = { id: idOf("printer"), name: "printer", nodeId: null, networkId: WEB, address: "10.192.16.79" };
  const changes: Change[] = [
    { kind: "endpoints", key: printer.id, row: { ...printer, attachment: null, external, createdAt: 0 } },
    { kind: "tasks", key: task.id, row: task },
    { kind: "statuses", key: task.id, row: statusRow(task, state) },
    { kind: "endpoints", key: endpoint.id, row: { ...endpoint, external: null, createdAt: 0 } },
    { kind: "statuses", key: endpoint.id, row: { ...statusRow(task, state), taskId: endpoint.id } },
    {
      kind: "nodes",
      key: idOf("node1"),
      row: { ...nodeRow("node1", "192.0.2.11", "10.192.0.2"), state: nodeState },
    },
  ];
  return new Names(applyChanges(exampleState, changes, 9));
}

const rows: [when: string, state: TaskState, node: "ready" | "down", name: string, addresses: string[] | undefined][] =
  [
    ["an alias is its container", "running", "ready", "cache", ["10.192.16.78"]],
    ["a task's alias is the task", "running", "ready", "db", ["10.192.16.77"]],
    ["Docker's name may have an underscore", "running", "ready", "app_db_1.web", ["10.192.16.77"]],
    ["a task has its slot's name too", "running", "ready", "search.7", ["10.192.16.77"]],
    ["a stopped container has no name", "complete", "ready", "cache", undefined],
    ["a stopped task has no alias", "failed", "ready", "db", undefined],
    ["a task of a lost node is not among them", "running", "down", "search.7", []],
    ["nor has it its alias", "running", "down", "db", undefined],
    ["a container of a lost node has no name", "running", "down", "cache", undefined],
    ["a sandbox of a lost node neither", "running", "down", "shell", undefined],
    ["a host behind another's VTEP is on no node", "running", "down", "printer", ["10.192.16.79"]],
  ];
for (const [when, state, node, name, addresses] of rows) {
  test(`${when}: ${name}`, (t) => {
    const names = withAttached(state, node);
    const found = names.find(name, names.networksOf(ipv4("10.192.16.31"), ipv4("10.192.16.1"))!);
    t.deepEqual(found?.entry.addresses.map(formatIpv4), addresses);
  });
}

test("in reverse a task is its slot, an endpoint its first name", (t) => {
  const names = withAttached("running");
  t.is(names.nameOf(ipv4("10.192.16.77"), names.networks)?.name, "search.7");
  t.is(names.nameOf(ipv4("10.192.16.78"), names.networks)?.name, "cache");
});

const SUBJECT = { ...attachment, aliases: [] };
const NETNS = { ...SUBJECT, subject: "netns:app" };
const askers: [who: string, address: string, networks: string[]][] = [
  ["a container on two networks, from the first", "10.192.16.80", ["back", "web"]],
  ["the same from the second", "10.192.32.80", ["back", "web"]],
  ["a namespace", "10.192.16.81", ["web"]],
  ["a namespace of that name on another node", "10.192.32.81", ["back"]],
];
for (const [who, address, networks] of askers) {
  test(`${who}: sees ${networks.join(" and ")}, its gateway's first`, (t) => {
    const row = (name: string, node: string, network: string, on: string, whose: typeof attachment): Change => {
      const place = { nodeId: idOf(node), networkId: idOf(network), address: on };
      const endpoint = { id: idOf(name), name, ...place, attachment: whose, external: null, createdAt: 0 };
      return { kind: "endpoints", key: endpoint.id, row: endpoint };
    };
    const changes = [
      row("one", "node1", "web", "10.192.16.80", SUBJECT),
      row("two", "node1", "back", "10.192.32.80", SUBJECT),
      row("three", "node1", "web", "10.192.16.81", NETNS),
      row("four", "node2", "back", "10.192.32.81", NETNS),
    ];
    const names = new Names(applyChanges(exampleState, changes, 9));
    for (const [gateway, first] of [
      ["10.192.16.1", "web"],
      ["10.192.32.1", "back"],
    ] as const) {
      const seen = names.networksOf(ipv4(address), ipv4(gateway))!.map(({ name }) => name);
      t.deepEqual(seen.toSorted(), networks);
      t.is(seen[0], networks.includes(first) ? first : networks[0]);
    }
  });
}
