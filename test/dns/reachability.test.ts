// Nodes that do not answer probes: what is on them is left out, unless nothing else has the name.
import test from "ava";
import type { Change } from "../../src/cluster/schema.ts";
import { Names } from "../../src/dns/names.ts";
import { formatIpv4, ipv4 } from "../../src/lib/ip.ts";
import { applyChanges } from "../fakes/apply-changes.ts";
import { exampleState, idOf, nodeRow, running, taskRow } from "./example-state.ts";

const WEB = idOf("web");
const BACK = idOf("back");
const elsewhere = { nodeId: idOf("node2") };
const attachment = { subject: "a".repeat(64), name: "db", image: null, aliases: ["db"], hostNames: [] };

function host(name: string, address: string, nodeId: string): Change {
  const place = { nodeId, networkId: WEB, address };
  const row = { id: idOf(name), name: "printer", ...place, attachment: null, external: null, createdAt: 0 };
  return { kind: "endpoints", key: row.id, row };
}

/** search.2, queue.2, one of two `printer` and one of two `db` are on node2. */
const state = applyChanges(
  exampleState,
  [
    { kind: "nodes", key: idOf("node2"), row: nodeRow("node2", "192.0.2.12", "10.192.0.3") },
    ...running({ ...taskRow("search", 2, { [WEB]: "10.192.16.12", [BACK]: "10.192.32.12" }), ...elsewhere }),
    ...running({ ...taskRow("queue", 2, { [BACK]: "10.192.32.22" }), ...elsewhere }),
    ...running({ ...taskRow("search", 4, { [WEB]: "10.192.16.14" }), attachment }),
    ...running({ ...taskRow("search", 5, { [WEB]: "10.192.16.15" }), attachment, ...elsewhere }),
    host("one", "10.192.16.41", idOf("node1")),
    host("two", "10.192.16.42", idOf("node2")),
  ],
  8,
);

const rows: [title: string, unreachable: string[], name: string, addresses: string[]][] = [
  ["all are reachable", [], "tasks.queue", ["10.192.32.21", "10.192.32.22"]],
  ["a node that is not there is unreachable", ["192.0.2.99"], "tasks.queue", ["10.192.32.21", "10.192.32.22"]],
  ["a task's node is unreachable", ["192.0.2.12"], "tasks.queue", ["10.192.32.21"]],
  ["and there is no VIP", ["192.0.2.12"], "queue", ["10.192.32.21"]],
  ["its slot", ["192.0.2.12"], "queue.2", []],
  ["the other's", ["192.0.2.12"], "queue.1", ["10.192.32.21"]],
  ["there is a VIP, balanced as the data path knows", ["192.0.2.12"], "search.back", ["10.192.32.2"]],
  ["no task is reachable", ["192.0.2.11", "192.0.2.12"], "queue", ["10.192.32.21", "10.192.32.22"]],
  ["nor is that slot", ["192.0.2.11", "192.0.2.12"], "queue.2", ["10.192.32.22"]],
  ["hosts share a name", [], "printer", ["10.192.16.41", "10.192.16.42"]],
  ["one of them is unreachable", ["192.0.2.12"], "printer", ["10.192.16.41"]],
  ["both are", ["192.0.2.11", "192.0.2.12"], "printer", ["10.192.16.41", "10.192.16.42"]],
  ["attached tasks share a name", [], "db", ["10.192.16.14", "10.192.16.15"]],
  ["one of these is unreachable", ["192.0.2.11"], "db", ["10.192.16.15"]],
];
for (const [title, unreachable, name, expected] of rows) {
  test(`${title}: ${name}`, (t) => {
    const names = new Names(state);
    names.setUnreachable(unreachable.map(ipv4));
    t.deepEqual(names.find(name, names.networks)?.entry.addresses.map(formatIpv4), expected);
  });
}
