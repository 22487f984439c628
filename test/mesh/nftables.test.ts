// The table as text, and which UDP ports changed between two.
import test from "ava";
import { cidr } from "../../src/lib/ip.ts";
import type { DesiredMesh, MeshPort } from "../../src/mesh/mesh.ts";
import { ruleset } from "../../src/mesh/nftables.ts";
import { changesOf, differing, entrances } from "../../src/mesh/nftables-mesh.ts";

function port(protocol: MeshPort["protocol"], number: number, vip: string, address: string | null = null): MeshPort {
  return { protocol, port: number, vip, address, onEveryLink: false };
}

const DESIRED: DesiredMesh = {
  pool: cidr("10.192.0.0/10"),
  device: "overlay0",
  vethPrefix: "ovl",
  tunnelPorts: [4789],
  ingressAddress: "10.192.0.2",
  internal: [],
  storePeers: null,
  ports: [port("tcp", 9200, "10.192.0.7"), port("udp", 53, "10.192.0.8"), port("tcp", 80, "10.192.0.9")],
};

test("ports are elements of a map, in order", (t) => {
  const text = ruleset("overlayd", DESIRED, []);
  t.regex(
    text,
    /map tcp_ports \{\s+type inet_service : ipv4_addr\s+elements = \{ 80 : 10\.192\.0\.9, 9200 : 10\.192\.0\.7 \}/,
  );
  t.regex(text, /map udp_ports \{\s+type inet_service : ipv4_addr\s+elements = \{ 53 : 10\.192\.0\.8 \}/);
});

const ROWS: [title: string, change: Partial<DesiredMesh>, line: string, expected: boolean][] = [
  ["the gateway's own ports are never translated", {}, "ip daddr 10.192.0.0/10 return", true],
  ["loopback clients get the node's address", {}, "127.0.0.0/8 snat to 10.192.0.2", true],
  ["without an address of the node nothing is translated to it", { ingressAddress: null }, "snat", false],
  ["without internal networks there is no rule for them", {}, "name internal_way_out", false],
  [
    "internal networks do not get out",
    { internal: [cidr("10.192.48.0/20"), cidr("10.192.64.0/20")] },
    "ip saddr { 10.192.48.0/20, 10.192.64.0/20 } ip daddr != 10.192.0.0/10 counter name internal_way_out drop",
    true,
  ],
  [
    "an overlay address from another link is dropped",
    {},
    "ip daddr 10.192.0.0/10 counter name routed_from_outside drop",
    true,
  ],
  ["what a container's link leaves over is dropped", {}, 'iifname "ovl*" counter name container_leftover drop', true],
  ["a node that is no manager guards no store", {}, "2380", false],
  [
    "a manager's store answers managers alone",
    { storePeers: ["192.0.2.11", "192.0.2.12"] },
    'iifname != "lo" tcp dport 2380 ip saddr != { 192.0.2.11, 192.0.2.12 } counter name store_port drop',
    true,
  ],
  ["a forged overlay source is dropped", {}, "ip saddr 10.192.0.0/10 counter name forged_pool_source drop", true],
  [
    "questions to a gateway's DNS are not tracked",
    {},
    "ip daddr != 10.192.0.0/10 return\n    fib daddr type != local notrack\n    udp dport 53 notrack",
    true,
  ],
  ["nor are its answers", {}, 'oifname "overlay0" ip saddr 10.192.0.0/10 udp sport 53 notrack', true],
  ["VXLAN between nodes is not tracked, inbound", {}, "udp dport { 4789 } fib daddr type local notrack", true],
  [
    "VXLAN between nodes is not tracked, outbound",
    { tunnelPorts: [4789, 8472] },
    "udp dport { 4789, 8472 } notrack",
    true,
  ],
  ["an empty map has no elements", { ports: [] }, "elements", false],
];
test("whatever stops here is counted, with its reason", (t) => {
  const text = ruleset("overlayd", { ...DESIRED, internal: [cidr("10.192.48.0/20")] }, []);
  const drops = text.match(/.* drop$/gm) ?? [];
  t.is(drops.length, 10);
  for (const rule of drops) t.regex(rule, / counter name [a-z_]+ drop$/);
});

for (const [title, change, line, expected] of ROWS) {
  test(title, (t) => {
    t.is(ruleset("overlayd", { ...DESIRED, ...change }, []).includes(line), expected);
  });
}

test("rules for other links are met neither by what comes out of the overlay nor by the node's own packets", (t) => {
  const raw = /chain raw \{\n(?<rules>[^}]+)\}/
    .exec(ruleset("overlayd", DESIRED, []))!
    .groups!.rules!.trim()
    .split(/\n\s*/);
  t.deepEqual(raw.slice(1, 3), ['iifname "overlay0" goto raw_from_overlay', 'iifname "lo" goto raw_from_node']);
});

test("a port on one address is in a map of its own", (t) => {
  const text = ruleset("overlayd", { ...DESIRED, ports: [port("tcp", 80, "10.192.0.9", "192.0.2.11")] }, []);
  t.regex(text, /map tcp_addresses \{\s+type [^\n]+\s+elements = \{ 192\.0\.2\.11 \. 80 : 10\.192\.0\.9 \}/);
  t.regex(text, /map tcp_ports \{\s+type [^\n]+\s+\}/);
});

test("a port on one address is for the link that has it, unless the address is on lo or a process has the port", (t) => {
  const ports = [
    port("tcp", 80, "10.192.0.9", "192.0.2.11"),
    port("tcp", 81, "10.192.0.9", "127.0.0.1"),
    { ...port("tcp", 82, "10.192.0.9", "198.51.100.7"), onEveryLink: true },
    port("tcp", 83, "10.192.0.9", "192.0.2.11"),
  ];
  const held = [{ port: 83, protocol: "tcp" as const, address: "192.0.2.11" }];
  const text = ruleset("overlayd", { ...DESIRED, ports }, held);
  t.regex(text, /set tcp_bound \{[^}]+elements = \{ 192\.0\.2\.11 \. 80, 127\.0\.0\.1 \. 81 \}/);
});

test("a port that a process has everywhere is left out, one that it has on an address is excepted there", (t) => {
  const held = [
    { port: 9200, protocol: "tcp" as const, address: "0.0.0.0" },
    { port: 53, protocol: "udp" as const, address: "127.0.0.53" },
  ];
  const text = ruleset("overlayd", DESIRED, held);
  t.regex(text, /map tcp_ports \{[^}]+elements = \{ 80 : 10\.192\.0\.9 \}/);
  t.regex(text, /map udp_ports \{[^}]+elements = \{ 53 : 10\.192\.0\.8 \}/);
  t.regex(text, /set udp_held \{[^}]+elements = \{ 127\.0\.0\.53 \. 53 \}/);
});

const END = "# new generation 7 by process 99 (nft)";
const transactions: [title: string, lines: string[], isOurs: boolean][] = [
  ["a rule of ours is deleted", ["delete rule ip overlayd raw handle 3", END], true],
  ["a rule of others is deleted", ["delete rule ip filter input handle 3", END], false],
  ["a table of another family has our name", ["delete table inet overlayd", END], false],
  ["the monitor does not know what it is about", [END], true],
];
for (const [title, lines, expected] of transactions) {
  test(`${title}: ${expected ? "the table is looked at" : "the table is left alone"}`, (t) => {
    const isOurs = changesOf("overlayd");
    t.false(isOurs("add table ip other"));
    t.false(isOurs(END));
    t.is(lines.map(isOurs).includes(true), expected);
  });
}

test("only UDP ports that lead elsewhere have changed", (t) => {
  const udp = (number: number, vip: string): MeshPort => port("udp", number, vip);
  const before = [udp(1, "a"), udp(2, "a"), udp(3, "a"), port("tcp", 5, "a"), udp(6, "a"), udp(7, "a")];
  const after = [udp(1, "a"), udp(2, "b"), udp(4, "a"), udp(6, "a"), port("udp", 7, "a", "192.0.2.11")];
  const held = [{ port: 6, protocol: "udp" as const, address: "0.0.0.0" }];
  t.deepEqual([...differing(entrances("udp", before, held), entrances("udp", after, []))], [2, 3, 6, 7, 4]);
});
