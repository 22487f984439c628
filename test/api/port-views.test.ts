// What is said of published ports that some node does not answer.
import test from "ava";
import { hostPorts, NodePorts } from "../../src/api/port-views.ts";
import type { Node, PublishedPort, Service } from "../../src/cluster/schema.ts";
import { emptyState } from "../../src/cluster/state.ts";
import { applyChanges } from "../fakes/apply-changes.ts";
import { nodeRow, put, serviceRow, taskRow } from "./fake-backend.ts";

const port = (over: Partial<PublishedPort> = {}): PublishedPort => {
  return { published: 80, target: 8080, protocol: "tcp", mode: "ingress", address: null, ...over };
};
const held = (address: string): Partial<Node> => ({ heldPorts: [{ port: 80, protocol: "tcp", address }] });

const rows: [title: string, ports: PublishedPort[], node2: Partial<Node>, says: RegExp | undefined][] = [
  ["all is well", [port()], {}, undefined],
  ["a process has the port", [port()], held("0.0.0.0"), /^node2 does not answer 80\/tcp: a process .*ss -lnpt/],
  ["a process has it on one address", [port()], held("192.0.2.12"), /80\/tcp at 192\.0\.2\.12: a process/],
  ["a process has it on another address", [port({ address: "192.0.2.11" })], held("192.0.2.12"), undefined],
  ["the mesh is off", [port()], { mesh: false }, /^node2 does not answer 80\/tcp: its configuration says 'mesh: off'/],
  ["a node has the address", [port({ address: "192.0.2.12" })], {}, undefined],
  ["every node has the address", [port({ address: "127.0.0.1" })], {}, undefined],
  [
    "no node has the address",
    [port({ address: "10.0.0.9" })],
    {},
    /^no node answers 10\.0\.0\.9:80\/tcp: none of them has that address/,
  ],
  ["a node has not said yet which addresses it has", [port({ address: "10.0.0.9" })], { addresses: [] }, undefined],
  ["the mesh is off where nobody asks", [port({ address: "192.0.2.11" })], { mesh: false }, undefined],
  ["the mesh is off, and nothing published", [], { mesh: false }, undefined],
  ["the mesh is off where a task has it in host mode", [port({ mode: "host" })], { mesh: false }, /'mesh: off'/],
];
for (const [title, ports, node2, says] of rows) {
  test(`${title}: ${says === undefined ? "nothing is said" : "it is said"}`, (t) => {
    const service: Service = serviceRow("web", { ports });
    const nodes = [put.node(nodeRow("node1")), put.node(nodeRow("node2", node2))];
    const state = applyChanges(emptyState(), [...nodes, put.service(service), put.task(taskRow("web", 1, "node2"))], 1);
    const warnings = new NodePorts(state).warnings(service);
    if (says === undefined) return t.deepEqual(warnings, []);
    t.is(warnings.length, 1);
    t.regex(warnings[0]!, says);
  });
}

test("a task has its ports in host mode while it is to run, and where they are answered", (t) => {
  const service = serviceRow("web", { ports: [port({ mode: "host" }), port({ published: 81 })] });
  const nodes = [put.node(nodeRow("node1")), put.node(nodeRow("node2", { mesh: false }))];
  const state = applyChanges(emptyState(), [...nodes, put.service(service)], 1);
  t.deepEqual(hostPorts(state, taskRow("web", 1, "node1")), [port({ mode: "host" })]);
  t.deepEqual(hostPorts(state, taskRow("web", 1, "node1", { desired: "draining" })), []);
  t.deepEqual(hostPorts(state, taskRow("web", 1, "node2")), []);
});

test("a node with `mesh: off` that has no task of a service in host mode is not spoken of", (t) => {
  const service = serviceRow("web", { ports: [port({ mode: "host" })] });
  const changes = [put.node(nodeRow("node1", { mesh: false })), put.service(service)];
  t.deepEqual(new NodePorts(applyChanges(emptyState(), changes, 1)).warnings(service), []);
});
