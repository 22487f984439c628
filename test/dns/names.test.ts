// Which names and addresses an asker sees, over the example cluster.
import test from "ava";
import { Names } from "../../src/dns/names.ts";
import { cidr, formatIpv4, ipv4 } from "../../src/lib/ip.ts";
import { applyChanges } from "../fakes/apply-changes.ts";
import { exampleState, idOf } from "./example-state.ts";

const names = new Names(exampleState);
const onWeb = ["10.192.16.31", "10.192.16.1"] as const;
const onBack = ["10.192.32.21", "10.192.32.1"] as const;
const onBothAskingBack = ["10.192.16.11", "10.192.32.1"] as const;
const host = ["127.0.0.1", "10.192.16.1"] as const;

function networksOf([address, gateway]: readonly [string, string]) {
  return names.networksOf(ipv4(address), ipv4(gateway));
}

const lookups: [string, readonly [string, string], string, string[] | undefined][] = [
  ["a service is its VIP on the asker's network", onWeb, "search", ["10.192.16.2"]],
  ["and on another network another one", onBack, "search", ["10.192.32.2"]],
  ["of several networks, the one whose gateway was asked comes first", onBothAskingBack, "search", ["10.192.32.2"]],
  ["without a VIP it is its running tasks", onBack, "queue", ["10.192.32.21", "10.192.32.22"]],
  ["a network can be named", onBothAskingBack, "search.web", ["10.192.16.2"]],
  ["a domain can be named", onWeb, "search.overlay", ["10.192.16.2"]],
  ["network and domain can be named", onWeb, "search.web.overlay", ["10.192.16.2"]],
  ["tasks that run are listed, one that starts is not", onWeb, "tasks.search", ["10.192.16.11", "10.192.16.12"]],
  ["tasks are listed with network and domain", onBack, "tasks.queue.back.overlay", ["10.192.32.21", "10.192.32.22"]],
  ["a slot is its task", onWeb, "search.2", ["10.192.16.12"]],
  ["a slot whose task does not run has no address", onWeb, "search.3", []],
  ["a slot whose task drains has no address", onBack, "queue.3", []],
  ["a slot that is not there is no name", onWeb, "search.4", undefined],
  ["a service without tasks has its VIP", onWeb, "empty", ["10.192.16.3"]],
  ["a service without tasks has an empty list of them", onWeb, "tasks.empty", []],
  ["endpoints share a name", onWeb, "shell", ["10.192.16.31", "10.192.16.32"]],
  ["an endpoint without a name is found by its id", onBack, "endpoint3zzz", ["10.192.32.31"]],
  ["the gateway has a name", onWeb, "gateway.web", ["10.192.16.1"]],
  ["but not a short one", onWeb, "gateway", undefined],
  ["names of other networks are not seen", onWeb, "queue", undefined],
  ["also not with their network", onWeb, "queue.back.overlay", undefined],
  ["the node sees all networks, the gateway's that it asked first", host, "search", ["10.192.16.2"]],
  ["the node sees names of every network", host, "queue", ["10.192.32.21", "10.192.32.22"]],
  ["a node's name is on ingress", host, "node1.ingress.overlay", ["10.192.0.2"]],
  ["a mesh VIP is on ingress", host, "search.ingress", ["10.192.0.9"]],
  ["the domain is no name", onWeb, "overlay", undefined],
  ["a longer domain is not the domain", onWeb, "search.myoverlay", undefined],
];
for (const [title, asker, name, expected] of lookups) {
  test(`${title}: ${name}`, (t) => {
    const found = names.find(name, networksOf(asker)!);
    t.deepEqual(found?.entry.addresses.map(formatIpv4), expected);
  });
}

const reverse: [string, readonly [string, string], string | undefined][] = [
  ["10.192.16.2", onWeb, "search.web.overlay"],
  ["10.192.16.12", onWeb, "search.2.web.overlay"],
  ["10.192.16.32", onWeb, "shell.web.overlay"],
  ["10.192.16.1", onWeb, "gateway.web.overlay"],
  ["10.192.32.2", onWeb, undefined],
  ["10.192.32.31", onBack, "endpoint3zzz.back.overlay"],
  ["10.192.0.2", host, "node1.ingress.overlay"],
  ["10.192.0.2", onWeb, undefined],
  ["10.192.16.200", onWeb, undefined],
];
for (const [address, asker, expected] of reverse) {
  test(`${asker[0]} asks for the name of ${address}`, (t) => {
    const found = names.nameOf(ipv4(address), networksOf(asker)!);
    t.is(found && names.fullName(found.name, found.network), expected);
  });
}

const askers: [string, string, string[] | undefined][] = [
  ["a task on two networks", "10.192.16.11", ["web", "back"]],
  ["an endpoint", "10.192.32.31", ["back"]],
  ["the node's underlay address", "192.0.2.11", ["web", "back", "ingress"]],
  ["the node's ingress address", "10.192.0.2", ["web", "back", "ingress"]],
  ["a gateway", "10.192.32.1", ["web", "back", "ingress"]],
  ["loopback", "127.0.0.9", ["web", "back", "ingress"]],
  ["an address that the state does not have yet", "10.192.16.99", ["web"]],
  ["a stranger", "198.51.100.1", undefined],
  ["a stranger in the pool", "10.200.0.1", undefined],
];
for (const [title, address, expected] of askers) {
  test(`${title} sees ${expected?.join(", ") ?? "nothing"}`, (t) => {
    t.deepEqual(
      networksOf([address, "10.192.16.1"])?.map(({ name }) => name),
      expected,
    );
  });
}

test("a task that runs again on another node is not taken for the one before", (t) => {
  const id = idOf("searchtask1");
  const moved = { ...exampleState.tasks.get(id)!, nodeId: idOf("node2") };
  const state = applyChanges(exampleState, [{ kind: "tasks", key: id, row: moved }], 8);
  const after = new Names(state);
  t.deepEqual(after.find("search.1", after.networks)?.entry.addresses, []);
});

test("the pool and every subnet are ours, also in part; what contains them is not", (t) => {
  t.true(names.isOurs(cidr("10.255.0.0/16")));
  t.true(names.isOurs(cidr("10.192.16.0/24")));
  t.false(names.isOurs(cidr("10.0.0.0/8")));
  t.true(new Names(exampleState, { pool: "172.31.0.0/16" }).isOurs(cidr("10.192.16.0/24")));
});

test("names are found under a domain of several labels", (t) => {
  const other = new Names(exampleState, { domain: "Cluster.Example" });
  t.is(other.find("search.web.cluster.example", other.networks)?.entry.targets[0]?.name, "search");
  t.is(other.find("search.overlay", other.networks), undefined);
});
