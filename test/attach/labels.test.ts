// What labels ask for, and what is said of those that make no sense.
import test from "ava";
import { asksFor, LabelError, readLabels } from "../../src/attach/labels.ts";

const NOTHING = { network: null, service: null, ports: [], name: null, aliases: [], address: null };

const rows: [says: string, labels: Record<string, string>, spec: Partial<ReturnType<typeof readLabels>>][] = [
  ["a network", { "overlayd.network": "web" }, { network: "web" }],
  ["a service on its own network", { "overlayd.service": "search" }, { service: "search" }],
  [
    "a service, its ports and aliases",
    {
      "overlayd.network": "web",
      "overlayd.service": "search",
      "overlayd.publish": "9200:9200, 53:5353/udp",
      "overlayd.alias": "es, db_1",
      "overlayd.node": "node1",
    },
    {
      network: "web",
      service: "search",
      ports: [
        { published: 9200, target: 9200, protocol: "tcp", mode: "ingress", address: null },
        { published: 53, target: 5353, protocol: "udp", mode: "ingress", address: null },
      ],
      aliases: ["es", "db_1"],
    },
  ],
  [
    "a port in the long form",
    { "overlayd.service": "search", "overlayd.publish": "mode=host,target=80,published=8080" },
    { service: "search", ports: [{ published: 8080, target: 80, protocol: "tcp", mode: "host", address: null }] },
  ],
  [
    "a name and an address, spaces around them aside",
    { "overlayd.network": "web", "overlayd.name": " db ", "overlayd.ip": "10.192.32.9" },
    { network: "web", name: "db", address: "10.192.32.9" },
  ],
  ["labels of others", { "overlayd.network": "web", "com.example": "x", overlayd: "y" }, { network: "web" }],
];
for (const [says, labels, spec] of rows) {
  test(`labels ask for ${says}`, (t) => {
    t.deepEqual(readLabels(labels), { ...NOTHING, ...spec });
  });
}

const wrong: [labels: Record<string, string>, says: RegExp][] = [
  [{ "overlayd.netwrok": "web" }, /there is no label 'overlayd\.netwrok'; did you mean 'overlayd\.network'\?/],
  [{ "overlayd.network": " " }, /label overlayd\.network is empty/],
  [{ "overlayd.alias": "db" }, /label overlayd\.alias needs overlayd\.network or overlayd\.service beside it/],
  [{ "overlayd.network": "web", "overlayd.publish": "80:80" }, /overlayd\.publish needs overlayd\.service/],
  [{ "overlayd.service": "a", "overlayd.name": "b" }, /overlayd\.name is not for a task of a service/],
  [{ "overlayd.service": "a_" }, /overlayd\.service: 'a_': a name has letters/],
  [{ "overlayd.service": "a", "overlayd.publish": "80:" }, /overlayd\.publish: '80:': write \[ADDRESS:\]/],
  [{ "overlayd.service": "a", "overlayd.publish": "70000:80" }, /'70000' is not a port from 1 to 65535/],
  [{ "overlayd.service": "a", "overlayd.publish": "80:80,," }, /overlayd\.publish: '': write \[ADDRESS:\]/],
  [{ "overlayd.network": "web", "overlayd.alias": "a..b" }, /overlayd\.alias: 'a\.\.b': an alias has letters/],
  [{ "overlayd.node": "node1" }, /label overlayd\.node needs overlayd\.network or overlayd\.service beside it/],
  [{ "overlayd.task": "x" }, /there is no label 'overlayd\.task'/],
  [{ "overlayd.network": "web", "overlayd.ip": "10.0.0.300" }, /overlayd\.ip: '10\.0\.0\.300' is not an IPv4 address/],
];
for (const [labels, says] of wrong) {
  test(`refused: ${JSON.stringify(labels)}`, (t) => {
    t.regex(t.throws(() => readLabels(labels), { instanceOf: LabelError })!.message, says);
  });
}

test("a container asks when it has a label of ours", (t) => {
  t.is(asksFor({ "com.example": "x" }), undefined);
  t.deepEqual(asksFor({ "overlayd.node": "node1" }), { node: "node1" });
  t.deepEqual(asksFor({ "overlayd.task": "typed by a person" }), { node: null });
  t.deepEqual(asksFor({ "overlayd.network": "web" }), { node: null });
  t.deepEqual(asksFor({ "overlayd.netwrok": "web", "overlayd.node": "node2" }), { node: "node2" });
});

test("what an agent started itself asks for nothing", (t) => {
  t.is(
    asksFor({ "overlayd.task": "x", "overlayd.role": "pause", "overlayd.node": "node1", "overlayd.node-id": "y" }),
    undefined,
  );
});
