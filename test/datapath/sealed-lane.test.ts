// Sealed flows and the express lane: none rides, also where a clear one had its addresses and ports before.
import test from "ava";
import { Conversation } from "../fakes/conversation.ts";
import { laneNodes } from "../fakes/lane-nodes.ts";
import { rowsFor } from "../fakes/nodes.ts";
import { agree, SEALED_CLUSTER, tap } from "../fakes/sealed-nodes.ts";
import { CLUSTER } from "../fakes/two-nodes.ts";

const WAYS: [name: string, server: [node: number, address: string]][] = [
  ["with another node", [1, "10.192.32.20"]],
  ["on one node", [0, "10.192.32.11"]],
];

/** The sealed network has the subnet and the addresses of the clear one, and another VNI. */
const AFTER = {
  ...SEALED_CLUSTER,
  networks: { 5000: SEALED_CLUSTER.networks[4096], 4097: CLUSTER.networks[4097]! },
  endpoints: Object.fromEntries(
    Object.entries(CLUSTER.endpoints).map(([ip, row]) => [ip, { ...row, vni: row.vni === 4096 ? 5000 : row.vni }]),
  ),
  vips: {},
};

for (const [name, server] of WAYS) {
  test(`a flow of a sealed network never rides, ${name}`, async (t) => {
    const lanes = await laneNodes({ sealed: true }, SEALED_CLUSTER);
    agree(lanes.nodes[0]!, lanes.nodes[1]!);
    const tcp = new Conversation(lanes, { client: [0, "10.192.32.10"], server });
    tcp.open();
    for (let i = 0; i < 10; i++) for (const by of tcp.exchange()) t.notRegex(by, /lane/);
  });

  test(`a sealed flow that has the addresses and ports of a clear one in the lane goes by the agents, ${name}`, async (t) => {
    const lanes = await laneNodes({ sealed: true });
    agree(lanes.nodes[0]!, lanes.nodes[1]!);
    const ends = { client: [0, "10.192.32.10"] as [number, string], server };
    const clear = new Conversation(lanes, ends);
    clear.open();
    for (let i = 0; i < 3; i++) clear.exchange();
    t.regex(clear.exchange().join(" "), /^lane( lane)*$/);
    for (const sameVni of [true, false]) {
      for (const node of lanes.nodes) node.apply(rowsFor(sameVni ? SEALED_CLUSTER : AFTER, node.vtep));
      const seen = tap(lanes.fake);
      for (const by of clear.exchange()) t.notRegex(by, /lane/);
      const sealed = new Conversation(lanes, ends);
      sealed.open();
      for (let i = 0; i < 5; i++) for (const by of sealed.exchange()) t.notRegex(by, /lane/);
      t.true(seen.every(({ toPort }) => toPort === 4500));
      if (server[0] === 1) t.true(seen.length > 10);
    }
  });
}

test("UDP in one direction of a clear network enters both lanes though the nodes have keys: notes about its flow go as the flow goes", async (t) => {
  const lanes = await laneNodes({ sealed: true });
  agree(lanes.nodes[0]!, lanes.nodes[1]!);
  const fields = {
    source: "10.192.32.10",
    destination: "10.192.32.20",
    protocol: "udp",
    sourcePort: 5000,
    destinationPort: 9,
  } as const;
  const carriers = Array.from({ length: 40 }, () => lanes.send(0, fields).by);
  t.is(carriers.at(-1), "lane lane", carriers.join(", "));
});
