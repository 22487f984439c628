// Names as Docker takes them: `_` in services, dots in networks, aliases and containers' names. Each is found as written.
import test from "ava";
import type { Change, Endpoint, Service } from "../../src/cluster/schema.ts";
import { Names } from "../../src/dns/names.ts";
import { applyChanges } from "../fakes/apply-changes.ts";
import { asking, asText } from "./asking.ts";
import { exampleState, idOf, networkRow, running, serviceRow, taskRow } from "./example-state.ts";

const WEB = idOf("web");
const LAB = idOf("labnet");
const LONG = `${"a".repeat(60)}.${"b".repeat(60)}.${"c".repeat(60)}.${"d".repeat(62)}.example`;
const [port] = exampleState.services.get(idOf("search"))!.ports;

const service = (row: Service): Change => ({ kind: "services", key: row.id, row });
const endpoint = (name: string, networkId: string, address: string): Change => {
  const row: Endpoint = {
    id: idOf(`endpoint${address}`),
    name,
    nodeId: idOf("node1"),
    networkId,
    address,
    attachment: null,
    external: null,
    createdAt: 0,
  };
  return { kind: "endpoints", key: row.id, row };
};
const labNetwork = networkRow("lab.net_1x", 9, "10.192.64.0/20", "10.192.64.1");
const state = applyChanges(
  exampleState,
  [
    { kind: "networks", key: LAB, row: { ...labNetwork, id: LAB } },
    service(
      serviceRow("stack_web", {
        networks: [WEB, LAB],
        vips: { [WEB]: "10.192.16.50", [LAB]: "10.192.64.50" },
        aliases: { [WEB]: ["db.corp.example", "_odd_", "search.web", "gateway.web", "tasks.search", LONG], [LAB]: [] },
        ports: [port!],
      }),
    ),
    ...running(taskRow("stack_web", 1, { [WEB]: "10.192.16.51", [LAB]: "10.192.64.51" })),
    endpoint("project_cache.1x", WEB, "10.192.16.60"),
    endpoint(LONG, WEB, "10.192.16.61"),
  ],
  9,
);
const ask = asking(new Names(state));

const shell = "10.192.16.31"; // on web
const onLab = "10.192.64.51"; // on both
const queue1 = "10.192.32.21"; // on back
const rows: [asker: string, name: string, type: string, expected: string][] = [
  [shell, "stack_web", "A", "NOERROR 10.192.16.50"],
  [shell, "Stack_Web.web.overlay", "A", "NOERROR 10.192.16.50"],
  [shell, "stack_web.overlay", "A", "NOERROR 10.192.16.50"],
  [shell, "tasks.stack_web", "A", "NOERROR 10.192.16.51"],
  [shell, "stack_web.1.web", "A", "NOERROR 10.192.16.51"],
  [shell, "_9200._tcp.stack_web", "SRV", "NOERROR 9200 stack_web.web.overlay"],
  [shell, "_tcp.stack_web", "SRV", "NOERROR SOA of ."],
  [shell, "51.16.192.10.in-addr.arpa", "PTR", "NOERROR stack_web.1.web.overlay"],
  [shell, "stack_nothing", "A", "NXDOMAIN SOA of ."],
  // an alias with dots
  [shell, "db.corp.example", "A", "NOERROR 10.192.16.50"],
  [shell, "DB.Corp.Example", "AAAA", "NOERROR SOA of ."],
  [shell, "db.corp.example.web", "A", "NOERROR 10.192.16.50"],
  [shell, "db.corp.example.web.overlay", "A", "NOERROR 10.192.16.50"],
  [shell, "tasks.db.corp.example", "A", "NOERROR 10.192.16.51"],
  [shell, "_9200._tcp.db.corp.example", "SRV", "NOERROR 9200 stack_web.web.overlay"],
  [queue1, "db.corp.example", "A", "forwarded"],
  [shell, LONG, "A", "NOERROR 10.192.16.50 10.192.16.61"],
  [shell, "_odd_", "A", "NOERROR 10.192.16.50"],
  // it hides that name and no other
  [shell, "corp.example", "A", "forwarded"],
  [shell, "www.corp.example", "A", "forwarded"],
  [shell, "a.db.corp.example", "A", "forwarded"],
  // no other server has names under the domain: the names above this one exist there, RFC 8020
  [shell, "corp.example.web.overlay", "A", "NOERROR SOA of overlay"],
  [shell, "example.overlay", "A", "NOERROR SOA of overlay"],
  [shell, "other.example.overlay", "A", "NXDOMAIN SOA of overlay"],
  // and takes none of the cluster's own
  [shell, "search.web", "A", "NOERROR 10.192.16.2"],
  [shell, "gateway.web", "A", "NOERROR 10.192.16.1"],
  [shell, "tasks.search", "A", "NOERROR 10.192.16.11 10.192.16.12"],
  // a container's name
  [shell, "project_cache.1x", "A", "NOERROR 10.192.16.60"],
  [shell, "project_cache.1x.web.overlay", "A", "NOERROR 10.192.16.60"],
  [shell, "60.16.192.10.in-addr.arpa", "PTR", "NOERROR project_cache.1x.web.overlay"],
  [shell, "61.16.192.10.in-addr.arpa", "PTR", "NOERROR endpoint1019.web.overlay"], // its name would be too long there
  // a network with dots
  [onLab, "stack_web.lab.net_1x", "A", "NOERROR 10.192.64.50"],
  [onLab, "stack_web.1.lab.net_1x.overlay", "A", "NOERROR 10.192.64.51"],
  [onLab, "gateway.lab.net_1x", "A", "NOERROR 10.192.64.1"],
  [onLab, "51.64.192.10.in-addr.arpa", "PTR", "NOERROR stack_web.1.lab.net_1x.overlay"],
  [onLab, "lab.net_1x", "A", "NOERROR SOA of ."],
  [onLab, "net_1x.overlay", "A", "NOERROR SOA of overlay"],
  [onLab, "nothing.lab.net_1x", "A", "NXDOMAIN SOA of ."],
  [onLab, "other.net_1x", "A", "forwarded"],
  [shell, "stack_web.lab.net_1x", "A", "NXDOMAIN SOA of ."],
  [shell, "nothing.lab.net_1x", "A", "forwarded"],
];
for (const [asker, name, type, expected] of rows) {
  const title = name === LONG ? "a name of 253 characters" : name;
  test(`${asker} asks ${title} ${type}: ${expected}`, (t) => t.is(asText(ask(asker, name, type)), expected));
}
