// The names that DNS answers with follow the state and the peers' health.
import test from "ava";
import { NamesInForce } from "../../src/agent/names-in-force.ts";
import { applyChanges } from "../../src/cluster/state.ts";
import type { Names } from "../../src/dns/names.ts";
import { formatIpv4, ipv4 } from "../../src/lib/ip.ts";
import { exampleState, idOf, nodeRow, running, taskRow } from "../dns/example-state.ts";

const state = applyChanges(
  exampleState,
  [
    { kind: "nodes", key: idOf("node2"), row: nodeRow("node2", "192.0.2.12", "10.192.0.3") },
    ...running({ ...taskRow("queue", 2, { [idOf("back")]: "10.192.32.22" }), nodeId: idOf("node2") }),
  ],
  8,
);

test("a peer's health is in force at once, and stays with the next snapshot; the same again is no news", (t) => {
  const put: Names[] = [];
  const inForce = new NamesInForce({}, (names) => put.push(names));
  const told = () => put.at(-1)?.find("queue", put.at(-1)!.networks)?.entry.addresses.map(formatIpv4);
  inForce.setUnreachable([ipv4("192.0.2.12")]);
  t.is(put.length, 0);
  inForce.update(state);
  t.deepEqual(told(), ["10.192.32.21"]);
  inForce.update(state);
  inForce.setUnreachable([ipv4("192.0.2.12")]);
  t.is(put.length, 2);
  t.deepEqual(told(), ["10.192.32.21"]);
  inForce.setUnreachable([]);
  t.is(put.length, 3);
  t.deepEqual(told(), ["10.192.32.21", "10.192.32.22"]);
});
