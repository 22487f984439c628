// Which changes touch names, and when the packet path's answer cache is emptied because of them.
import test from "ava";
import type { Change, Node, Service, Task } from "../../src/cluster/schema.ts";
import { LiveState } from "../../src/cluster/state.ts";
import { type AnswerCache, AnswerCacheFeed } from "../../src/dns/answer-cache.ts";
import type { Query } from "../../src/dns/message.ts";
import { Names } from "../../src/dns/names.ts";
import { ipv4 } from "../../src/lib/ip.ts";
import { VirtualClock } from "../fakes/virtual-clock.ts";
import { exampleState, idOf, networkRow, nodeRow, running, serviceRow, statusRow, taskRow } from "./example-state.ts";

const WEB = idOf("web");
const BACK = idOf("back");
const node1 = nodeRow("node1", "192.0.2.11", "10.192.0.2");
const search = exampleState.services.get(idOf("search"))!;
const search1 = exampleState.tasks.get(idOf("searchtask1"))!;
const starting = exampleState.tasks.get(idOf("searchtask3"))!;

const node = (row: Node): Change => ({ kind: "nodes", key: row.id, row });
const service = (row: Service): Change => ({ kind: "services", key: row.id, row });
const task = (row: Task): Change => ({ kind: "tasks", key: row.id, row });
const status = (of: Task, rest: Partial<ReturnType<typeof statusRow>>): Change => ({
  kind: "statuses",
  key: of.id,
  row: { ...statusRow(of, "running"), ...rest },
});

function example(): { state: LiveState; names: Names } {
  const state = new LiveState();
  state.replaceBy(exampleState);
  return { state, names: new Names(state) };
}

const changes: [title: string, change: Change, touches: boolean][] = [
  [
    "ports that a node's processes hold",
    node({ ...node1, heldPorts: [{ port: 80, protocol: "tcp", address: "192.0.2.11" }] }),
    false,
  ],
  ["how well a node follows", node({ ...node1, health: "behind", docker: false }), false],
  ["a node that is lost", node({ ...node1, state: "down" }), true],
  ["a node's own name", node({ ...node1, name: "other" }), true],
  ["a new node", node(nodeRow("node9", "192.0.2.19", "10.192.0.19")), true],
  [
    "how a service is balanced",
    service({ ...search, balancing: { ...search.balancing }, replicas: 9, updatedAt: 9 }),
    false,
  ],
  ["a service's labels", service({ ...search, labels: { a: "b" } }), true],
  ["a service's alias", service({ ...search, aliases: { [WEB]: ["find"] } }), true],
  ["how long a service's names may be kept", service({ ...search, dnsTtlSeconds: 60 }), true],
  ["a service that goes", { kind: "services", key: search.id, row: null }, true],
  ["why a task has no node", task({ ...search1, error: "no node" }), false],
  ["a task that is to drain", task({ ...search1, desired: "draining" }), true],
  ["how often a task was started", status(search1, { restarts: 3, since: 9, message: "again" }), false],
  ["a task that ends", status(search1, { state: "complete" }), true],
  ["a task that starts goes on starting", status(starting, { state: "preparing", message: "10 %" }), false],
  ["an address that is given away", allocation("10.192.16.200"), false],
  ["a port that is published", { kind: "ports", key: "80/tcp", row: claim() }, false],
  [
    "a network's way out",
    { kind: "networks", key: WEB, row: { ...exampleState.networks.get(WEB)!, internal: true } },
    false,
  ],
  [
    "a new network",
    { kind: "networks", key: idOf("new"), row: networkRow("new", 9, "10.192.80.0/20", "10.192.80.1") },
    true,
  ],
];
for (const [title, change, touches] of changes) {
  test(`${title}: ${touches ? "touches names" : "touches no name"}`, (t) => {
    const { state, names } = example();
    let told = 0;
    names.onTouched = () => told++;
    names.changed(state.apply([change], 8));
    t.is(told, touches ? 1 : 0);
  });
}

function allocation(address: string): Change {
  const holder = { kind: "task", id: search1.id } as const;
  return { kind: "allocations", key: address, row: { address, networkId: WEB, holder, releasedAt: null } };
}

function claim() {
  return { port: 80, protocol: "tcp", address: null, serviceId: search.id } as const;
}

/** A cache with the answer that a task of `queue` was given for `search`. */
function cached() {
  const { state, names } = example();
  const counts = { added: 0, emptied: 0 };
  const cache: AnswerCache = { addAnswer: () => counts.added++, forgetAnswers: () => counts.emptied++ };
  const feed = new AnswerCacheFeed(new VirtualClock(), cache, 1);
  names.onTouched = (touched) => feed.touched(touched);
  const ask = (name: string, address: string) => {
    const [client, via] = [ipv4(address), ipv4("10.192.16.1")];
    const asker = { address: client, via, names, networks: names.networksOf(client, via)! };
    const query: Query = { id: 1, flags: 0, name, type: 1, question: Buffer.alloc(0), edns: undefined, fault: 0 };
    const answer = { kind: "addresses", addresses: [1], ttlSeconds: 5 } as const;
    feed.answered(Buffer.alloc(12), query, asker, answer, Buffer.alloc(12));
  };
  return { state, names, counts, ask };
}

const CLIENT = "10.192.16.31"; // an endpoint on web
const effects: [title: string, name: string, changes: Change[], emptied: boolean][] = [
  ["another service", "search", [service(serviceRow("other", { networks: [WEB] }))], false],
  ["another service's task", "search", running(taskRow("queue", 9, { [BACK]: "10.192.32.29" })), false],
  ["the service's own task", "search", running(taskRow("search", 9, { [WEB]: "10.192.16.19" })), true],
  ["the same through its network and domain", "search.web.overlay", [service({ ...search, dnsTtlSeconds: 1 })], true],
  ["its ports", "_9200._tcp.search", [service({ ...search, ports: [] })], true],
  ["its tasks", "tasks.search", [status(search1, { state: "failed" })], true],
  [
    "another service takes the name as its alias",
    "shell",
    [service({ ...search, aliases: { [WEB]: ["Shell"] } })],
    true,
  ],
  ["an address's name", "11.16.192.10.in-addr.arpa", [service({ ...search, dnsTtlSeconds: 1 })], true],
  ["the client is gone", "search", [{ kind: "endpoints", key: idOf("endpoint0"), row: null }], true],
  ["a container beside it is gone", "search", [{ kind: "endpoints", key: idOf("endpoint3"), row: null }], false],
  ["a node is lost", "search", [node({ ...node1, state: "down" })], true],
];
for (const [title, name, changed, emptied] of effects) {
  test(`the answer about ${name} ${emptied ? "is forgotten" : "stays"}: ${title}`, (t) => {
    const { state, names, counts, ask } = cached();
    ask(name, CLIENT);
    t.is(counts.added, 1);
    names.changed(state.apply(changed, 8));
    t.is(counts.emptied, emptied ? 1 : 0);
  });
}

test("a cache without answers is not emptied again, and a node's reachability empties it only when it changes", (t) => {
  const { state, names, counts, ask } = cached();
  names.changed(state.apply([node({ ...node1, state: "down" })], 8));
  t.is(counts.emptied, 0);
  ask("search", CLIENT);
  names.setUnreachable([ipv4("192.0.2.12")]);
  t.is(counts.emptied, 1);
  ask("search", CLIENT);
  names.setUnreachable([ipv4("192.0.2.12")]);
  t.is(counts.emptied, 1);
});

test("a name that nothing has is not given to the cache", (t) => {
  const { counts, ask } = cached();
  ask("nothing", CLIENT);
  ask("web", CLIENT);
  ask("1.2.3.4.in-addr.arpa", CLIENT);
  t.is(counts.added, 0);
});
