// Ports that no container reaches: each port where a manager answers, and every VXLAN port.
import test from "ava";
import type { Viewpoint } from "../../src/agent/compile-tables.ts";
import { ManagerAddresses } from "../../src/agent/manager-addresses.ts";
import { NodeIdentity } from "../../src/cluster/protocol.ts";
import type { Node } from "../../src/cluster/schema.ts";
import { emptyState } from "../../src/cluster/state.ts";
import type { State } from "../../src/cluster/tables.ts";
import { formatIpv4 } from "../../src/lib/ip.ts";
import { networkRow, nodeRow } from "../api/fake-backend.ts";
import { applyChanges } from "../fakes/apply-changes.ts";
import { compileTables } from "../fakes/compile-tables.ts";
import { VirtualClock } from "../fakes/virtual-clock.ts";

/** A node that says nothing of itself sees the others. */
const OWN = nodeRow("own", { address: "192.0.2.200", addresses: [], manager: false });
const INGRESS = { ...networkRow("ingress"), name: "ingress", gateway: "10.192.0.1" };
const VIEWPOINT: Viewpoint = {
  ...{ nodeId: OWN.id, pool: "10.192.0.0/10", mtu: 1450, meshOn: true, nodeServices: true },
  ...{ hostAddresses: [], managers: [], heldPorts: [], isProvisional: false },
};

function stateOf(nodes: Node[]): State {
  const networks = [INGRESS, networkRow("web")].map((row) => ({ kind: "networks" as const, key: row.id, row }));
  const rows = [OWN, ...nodes].map((row) => ({ kind: "nodes" as const, key: row.id, row }));
  return applyChanges(emptyState(), [...networks, ...rows], 1);
}

/** "tcp/PORT" and "udp/PORT" by address, without those of the node itself and of the ingress network. */
function denied(nodes: Node[], own: Partial<Viewpoint> = {}): Record<string, string> {
  const rows = [...compileTables(stateOf(nodes), { ...VIEWPOINT, ...own }).values()].filter(
    (row) => row.kind === "denied",
  );
  const words = rows.map(({ ip, ports }) => [
    formatIpv4(ip),
    ports.map(({ protocol, port }) => `${protocol === 6 ? "tcp" : "udp"}/${port}`).join(" "),
  ]);
  const others = words.filter(([address]) => address !== OWN.address && address !== INGRESS.gateway);
  return Object.fromEntries(others.toSorted());
}

const WORKER = nodeRow("node2", { addresses: ["192.0.2.12", "172.16.0.12"] });
const SESSIONS = { port: 2400 };

test("a manager that listens on one address: sessions on it, and on every address of every node", (t) => {
  const manager = nodeRow("node1", {
    addresses: ["192.0.2.11"],
    listen: { address: "172.16.0.11", ...SESSIONS },
  });
  t.deepEqual(denied([manager, WORKER]), {
    "10.192.32.1": "tcp/2380 tcp/2400",
    "172.16.0.11": "tcp/2400",
    "172.16.0.12": "tcp/2380 tcp/2400",
    "192.0.2.11": "tcp/2380 tcp/2400 udp/4789",
    "192.0.2.12": "tcp/2380 tcp/2400 udp/4789",
  });
});

test("a manager that listens on every address: on all that its node has told, and no row of 0.0.0.0", (t) => {
  const listen = { address: "0.0.0.0", ...SESSIONS };
  const manager = nodeRow("node1", { addresses: ["192.0.2.11", "172.16.0.11", "203.0.113.5"], listen });
  t.deepEqual(Object.keys(denied([manager])), ["10.192.32.1", "172.16.0.11", "192.0.2.11", "203.0.113.5"]);
});

test("a manager behind an address translator: where it is reached, on that port alone", (t) => {
  const listen = { address: "192.0.2.11", ...SESSIONS };
  const manager = nodeRow("node1", { listen, advertise: { address: "203.0.113.5", port: 8000 } });
  const rows = denied([manager]);
  t.is(rows["203.0.113.5"], "tcp/8000");
  t.is(rows["192.0.2.11"], "tcp/2380 tcp/2400 udp/4789");
});

test("a manager of an earlier version has not said where it listens: what this node is configured with counts", (t) => {
  const managers = [{ address: "203.0.113.5", port: 2377 }];
  const rows = denied([nodeRow("node1"), WORKER], { managers, hostAddresses: ["198.18.0.1"] });
  for (const address of ["10.192.32.1", "198.18.0.1", "172.16.0.12"]) t.is(rows[address], "tcp/2377 tcp/2380");
  t.is(rows["203.0.113.5"], "tcp/2377");
});

test("an identity of an earlier version is one that has not said where it listens", (t) => {
  const told = NodeIdentity.parse({ name: "a", address: "192.0.2.11", vxlanPort: 4789, manager: true });
  t.is(told.listen, null);
  t.is(told.advertise, null);
});

test("a manager's name stands for all its addresses, and for those it had while it cannot be resolved", async (t) => {
  const clock = new VirtualClock();
  let answer: string[] | undefined = ["203.0.113.6", "203.0.113.5"];
  let changes = 0;
  const managers = new ManagerAddresses({
    managers: ["manager.example:2377", "192.0.2.11:2400"],
    clock,
    resolve: async () => answer ?? Promise.reject(new Error("no answer")),
  });
  managers.watch(() => changes++);
  const all = [
    { address: "203.0.113.5", port: 2377 },
    { address: "203.0.113.6", port: 2377 },
    { address: "192.0.2.11", port: 2400 },
  ];
  await clock.advance(0);
  t.deepEqual(managers.addresses(), all);
  answer = undefined;
  await clock.advance(30_000);
  t.deepEqual(managers.addresses(), all);
  answer = ["203.0.113.7"];
  await clock.advance(30_000);
  t.deepEqual(managers.addresses(), [{ address: "203.0.113.7", port: 2377 }, all[2]]);
  t.is(changes, 2);
  managers.stop();
});
