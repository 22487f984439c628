// The answers to each client, over the example cluster, with a resolver that cannot be reached: nothing here may need it.
import test from "ava";
import type { Change } from "../../src/cluster/schema.ts";
import { Names } from "../../src/dns/names.ts";
import { applyChanges } from "../fakes/apply-changes.ts";
import { type Answered, asking, asText } from "./asking.ts";
import { exampleState, idOf, networkRow, serviceRow } from "./example-state.ts";

const ask = asking(new Names(exampleState), ["corp.example", "lan"]);

const shell = "10.192.16.31"; // on web
const queue1 = "10.192.32.21"; // on back
const rows: [string, string, string, string][] = [
  [shell, "search", "A", "NOERROR 10.192.16.2"],
  [shell, "SEARCH.Web.OVERLAY", "A", "NOERROR 10.192.16.2"],
  [shell, "search", "ANY", "NOERROR 10.192.16.2"],
  [shell, "search", "AAAA", "NOERROR SOA of ."],
  [shell, "search.overlay", "AAAA", "NOERROR SOA of overlay"],
  [shell, "search", "TXT", "NOERROR SOA of ."],
  [shell, "tasks.search", "A", "NOERROR 10.192.16.11 10.192.16.12"],
  [shell, "tasks.empty", "A", "NOERROR SOA of ."],
  [shell, "search.3", "A", "NOERROR SOA of ."],
  [queue1, "queue", "A", "NOERROR 10.192.32.21 10.192.32.22"],
  // of other networks, and unknown
  [shell, "queue", "A", "NXDOMAIN SOA of ."],
  [shell, "queue.back.overlay", "A", "NXDOMAIN SOA of overlay"],
  [shell, "nothing", "A", "NXDOMAIN SOA of ."],
  [shell, "nothing", "AAAA", "NXDOMAIN SOA of ."],
  [shell, "nothing.overlay", "A", "NXDOMAIN SOA of overlay"],
  [shell, "tasks.nothing", "A", "NXDOMAIN SOA of ."],
  [shell, "search.9", "A", "NXDOMAIN SOA of ."],
  [shell, "10.0.0.1", "A", "NXDOMAIN SOA of ."],
  [shell, "back", "A", "NXDOMAIN SOA of ."],
  [shell, "back", "NS", "NXDOMAIN SOA of ."],
  [shell, "queue.back", "A", "NXDOMAIN SOA of ."],
  [shell, "nothing.back", "A", "forwarded"],
  [shell, "www.nothing.back", "A", "forwarded"],
  [shell, "tasks.nothing.back", "A", "NXDOMAIN SOA of ."],
  [shell, "queue.9.back", "A", "NXDOMAIN SOA of ."],
  [shell, "nothing.web", "NS", "NXDOMAIN SOA of ."],
  [shell, "tasks.nothing.web", "A", "NXDOMAIN SOA of ."],
  [shell, "tasks.queue.back", "A", "NXDOMAIN SOA of ."],
  [shell, "search.9.web", "A", "NXDOMAIN SOA of ."],
  [shell, "www.nothing.web", "A", "NXDOMAIN SOA of ."],
  [shell, "_80._tcp.queue.back", "SRV", "NXDOMAIN SOA of ."],
  [shell, "gateway", "A", "NXDOMAIN SOA of ."],
  // top-level domains: only what resolvers ask of them
  [shell, "org", "NS", "forwarded"],
  [shell, "org", "SOA", "forwarded"],
  [shell, "org", "DS", "forwarded"],
  [shell, "org", "DNSKEY", "forwarded"],
  [shell, "org", "A", "NXDOMAIN SOA of ."],
  [shell, "arpa", "NS", "forwarded"],
  [shell, "_tcp.org", "NS", "NXDOMAIN SOA of ."],
  [shell, "9", "NS", "NXDOMAIN SOA of ."],
  // names with names below them
  [shell, "web", "A", "NOERROR SOA of ."],
  [shell, "web", "NS", "NOERROR SOA of ."],
  [shell, "1", "A", "NOERROR SOA of ."],
  [shell, "1.web", "A", "NOERROR SOA of ."],
  [shell, "1.web.overlay", "A", "NOERROR SOA of overlay"],
  [shell, "1.overlay", "A", "NOERROR SOA of overlay"],
  [shell, "1.back", "A", "NXDOMAIN SOA of ."],
  [queue1, "1.back", "A", "NOERROR SOA of ."],
  [shell, "arpa", "A", "NOERROR SOA of ."],
  [shell, "_tcp.search", "SRV", "NOERROR SOA of ."],
  [shell, "_tcp.tasks.search.web.overlay", "SRV", "NOERROR SOA of overlay"],
  [shell, "_udp.search", "SRV", "NXDOMAIN SOA of ."],
  [shell, "_tcp.empty", "SRV", "NXDOMAIN SOA of ."],
  [shell, "tasks", "A", "NXDOMAIN SOA of ."], // `tasks.search` is below `search`
  // the domain
  [shell, "overlay", "SOA", "NOERROR SOA ns.overlay"],
  [shell, "overlay", "NS", "NOERROR ns.overlay"],
  [shell, "overlay", "A", "NOERROR SOA of overlay"],
  [shell, "ns.overlay", "A", "NOERROR 10.192.16.1"],
  [shell, "web.overlay", "A", "NOERROR SOA of overlay"],
  [shell, "back.overlay", "A", "NXDOMAIN SOA of overlay"],
  // services
  [shell, "_9200._tcp.search", "SRV", "NOERROR 9200 search.web.overlay"],
  [shell, "_9200._TCP.Search.web.overlay", "SRV", "NOERROR 9200 search.web.overlay"],
  [shell, "_9200._tcp.tasks.search", "SRV", "NOERROR 9200 search.1.web.overlay 9200 search.2.web.overlay"],
  [queue1, "_5000._udp.queue", "SRV", "NOERROR 5000 queue.1.back.overlay 5000 queue.2.back.overlay"],
  [shell, "_9200._tcp.search", "A", "NOERROR SOA of ."],
  [shell, "_9200._udp.search", "SRV", "NXDOMAIN SOA of ."],
  [shell, "_80._tcp.search", "SRV", "NXDOMAIN SOA of ."],
  [shell, "_5000._udp.queue", "SRV", "NXDOMAIN SOA of ."],
  [shell, "_80._tcp.nothing", "SRV", "NXDOMAIN SOA of ."],
  // addresses
  [shell, "2.16.192.10.in-addr.arpa", "PTR", "NOERROR search.web.overlay"],
  [shell, "12.16.192.10.in-addr.arpa", "PTR", "NOERROR search.2.web.overlay"],
  [shell, "x.2.16.192.10.in-addr.arpa", "PTR", "NXDOMAIN SOA of in-addr.arpa"],
  [shell, "2.16.192.10.in-addr.arpa", "A", "NOERROR SOA of in-addr.arpa"],
  [shell, "2.32.192.10.in-addr.arpa", "PTR", "NXDOMAIN SOA of in-addr.arpa"],
  [shell, "9.9.200.10.in-addr.arpa", "PTR", "NXDOMAIN SOA of in-addr.arpa"],
  [shell, "200.10.in-addr.arpa", "NS", "NOERROR SOA of in-addr.arpa"],
  [shell, "1.0.0.127.in-addr.arpa", "PTR", "forwarded"],
  [shell, "10.in-addr.arpa", "SOA", "forwarded"],
  // names with rules of their own
  [shell, "localhost", "A", "NOERROR 127.0.0.1"],
  [shell, "a.localhost", "AAAA", "NOERROR SOA of ."],
  [shell, "x.invalid", "A", "NXDOMAIN SOA of ."],
  [shell, "overlay", "AXFR", "REFUSED"],
  [shell, "overlay", "IXFR", "REFUSED"],
  // the rest of the world
  [shell, "example.org", "A", "forwarded"],
  [shell, "tasks.example.org", "A", "forwarded"],
  [shell, "search.example.org", "A", "forwarded"],
  [shell, "_xmpp._tcp.example.org", "SRV", "forwarded"],
  [shell, ".", "NS", "forwarded"],
  [shell, "lan", "A", "forwarded"],
  [shell, "printer.lan", "A", "forwarded"],
];
for (const [asker, name, type, expected] of rows) {
  test(`${asker} asks ${name} ${type}: ${expected}`, (t) => {
    t.is(asText(ask(asker, name, type)), expected);
  });
}

const named = applyChanges(
  exampleState,
  ["test", "ns"].map((name, i): Change => {
    const row = networkRow(name, 5 + i, `10.192.${48 + 16 * i}.0/20`, `10.192.${48 + 16 * i}.1`);
    return { kind: "networks", key: row.id, row };
  }),
  8,
);
const withServices = applyChanges(
  named,
  ["overlay", "ns", "cluster", "localhost"].map((name, i): Change => {
    const vips = { [idOf("web")]: `10.192.16.${60 + i}`, [idOf("test")]: `10.192.48.${60 + i}` };
    return { kind: "services", key: idOf(name), row: serviceRow(name, { networks: Object.keys(vips), vips }) };
  }),
  9,
);
const hidden: [domain: string, name: string, type: string, expected: string][] = [
  ["overlay", "overlay", "A", "NOERROR SOA of overlay"],
  ["overlay", "overlay", "SOA", "NOERROR SOA ns.overlay"],
  ["overlay", "overlay.web.overlay", "A", "NOERROR 10.192.16.60"],
  ["overlay", "ns.overlay", "A", "NOERROR 10.192.16.1"],
  ["overlay", "ns", "A", "NOERROR 10.192.16.61"],
  ["overlay", "localhost", "A", "NOERROR 127.0.0.1"],
  ["cluster.test", "cluster.test", "SOA", "NOERROR SOA ns.cluster.test"],
  ["cluster.test", "ns.cluster.test", "A", "NOERROR 10.192.16.1"],
  ["cluster.example", "example", "A", "NOERROR SOA of ."],
];
for (const [domain, name, type, expected] of hidden) {
  test(`the domain ${domain} is not hidden by what is named so: ${name} ${type}`, (t) => {
    t.is(asText(asking(new Names(withServices, { domain }))("127.0.0.1", name, type)), expected);
  });
}

test("SRV of a service without tasks is empty, and says for how long", (t) => {
  const [port] = exampleState.services.get(idOf("queue"))!.ports;
  const idle = serviceRow("idle", { networks: [idOf("web")], endpointMode: "dnsrr", ports: [port!] });
  const state = applyChanges(exampleState, [{ kind: "services", key: idle.id, row: idle }], 8);
  t.is(asText(asking(new Names(state))(shell, "_5000._udp.idle", "SRV")), "NOERROR SOA of .");
});

test("an answer is authoritative and lives 5 s", (t) => {
  const packet = ask(shell, "search", "A") as Answered;
  t.true(packet.flag_aa);
  t.like(packet.answers?.[0], { name: "search", ttl: 5 });
});

test("SRV comes with the addresses of its targets", (t) => {
  const packet = ask(shell, "_9200._tcp.search", "SRV") as Answered;
  t.like(packet.additionals?.[0], { type: "A", name: "search.web.overlay", data: "10.192.16.2" });
});

test("tasks come in random order, every one first at times", (t) => {
  const firsts = new Set<unknown>();
  for (let i = 0; i < 64; i++) {
    const [first] = (ask(shell, "tasks.search", "A") as Answered).answers!;
    firsts.add(first?.type === "A" && first.data);
  }
  t.is(firsts.size, 2);
});
