// Which peers are sent what an express lane sends: those whose agents say that they take it, by the rows of this node's data path and in
// the words of `overlayctl peers`.
import { readFile } from "node:fs/promises";
import test from "ava";
import { peerViews } from "../../src/agent/peer-views.ts";
import { FEATURES } from "../../src/cluster/features.ts";
import { stateFromJson } from "../../src/cluster/state.ts";
import type { State } from "../../src/cluster/tables.ts";
import { formatIpv4 } from "../../src/lib/ip.ts";
import { compileTables } from "../fakes/compile-tables.ts";
import { Cluster } from "../leader/cluster-fixture.ts";

/** By the peers' addresses, whether `nodeId` may send them lane frames. */
function lanesOf(state: State, nodeId: string): Record<string, boolean> {
  const rows = compileTables(state, {
    ...{ nodeId, pool: "10.192.0.0/10", hostAddresses: [], mtu: 1450, meshOn: true },
    ...{ heldPorts: [], managers: [], nodeServices: true, isProvisional: false },
  });
  const peers = [...rows.values()].filter((row) => row.kind === "peer");
  return Object.fromEntries(peers.map(({ vtep, lane }) => [formatIpv4(vtep), lane]));
}

for (const [name, first] of [
  ["session-protocol-1.json", false],
  ["session-protocol-1-lane.json", true],
] as const) {
  test(`the peers in ${name}: ${first ? "one takes lane frames" : "none takes lane frames"}`, async (t) => {
    const { seen, nodeId } = JSON.parse(await readFile(`test/golden/${name}`, "utf8"));
    // The third node is of a version before, and the fourth is the VTEP of an external endpoint.
    const expected = { "192.0.2.11": first, "192.0.2.13": false, "198.51.100.9": false };
    t.deepEqual(lanesOf(stateFromJson(seen), nodeId), expected);
  });
}

test("a peer whose agent becomes an older version is sent no lane frames from its session's beginning on", async (t) => {
  const cluster = await Cluster.start(2);
  const [own, peer] = cluster.nodes;
  const lanes = () => lanesOf(own!.state!, own!.id!);
  for (const [features, lane] of [
    [[...FEATURES], true],
    [[], false],
    [[...FEATURES, "of-later"], true],
  ] as const) {
    peer!.features = [...features];
    await peer!.join(cluster.leader);
    await cluster.settle();
    t.deepEqual(lanes(), { "192.0.2.12": lane });
  }
});

test("nothing is withheld from a node that takes no lane frames, and tasks are placed on it", async (t) => {
  const cluster = await Cluster.start(2);
  cluster.nodes[0]!.features = [...FEATURES];
  await cluster.nodes[0]!.join(cluster.leader);
  const workload = { runtime: "process" as const, command: ["true"] };
  await cluster.leader.execute({ type: "service.create", name: "a", workload, replicas: 2 });
  await cluster.settle();
  t.deepEqual(cluster.spread("a"), [1, 1]);
  const [one, other] = cluster.nodes.map(({ state }) => [...state!.tasks.keys()].toSorted());
  t.deepEqual(other, one);
});

test("peers say whether the lane is used, and if not why: this node's own reason, or the peer's", async (t) => {
  const cluster = await Cluster.start(3);
  cluster.nodes[1]!.features = [...FEATURES];
  await cluster.nodes[1]!.join(cluster.leader);
  await cluster.settle();
  const seen = (whyOff: (address: string) => string | null) =>
    peerViews(
      cluster.leader.state,
      "node1",
      { probes: [], traffic: [], sealed: [] },
      { whyOff, goesByLink: false },
      { whyNot: undefined, peers: undefined },
    ).map((view) => [view.name, view.lane, view.laneReason]);
  t.deepEqual(
    seen(() => null),
    [
      ["node2", "on", null],
      ["node3", "off", "older-agent"],
    ],
  );
  t.deepEqual(
    seen((address) => (address === "192.0.2.12" ? "stalled" : null)),
    [
      ["node2", "off", "stalled"],
      ["node3", "off", "older-agent"],
    ],
  );
  t.deepEqual(
    seen(() => "unavailable"),
    [
      ["node2", "off", "unavailable"],
      ["node3", "off", "unavailable"],
    ],
  );
});
