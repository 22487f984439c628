// The tables are a function of the rows: whatever diffs led to them, they are as if made from the last rows at once.
import test from "ava";
import fc from "fast-check";
import {
  type EndpointRow,
  type NetworkRow,
  type PeerRow,
  rowKey,
  type TableRow,
  type TableRows,
} from "../../src/datapath/rows.ts";
import { Tables } from "../../src/datapath/tables.ts";
import { ipv4, maskOf } from "../../src/lib/ip.ts";
import { diffTables } from "../fakes/diff-tables.ts";
import { rowsFor } from "../fakes/nodes.ts";
import { rowsOf } from "../fakes/rows-of.ts";
import { A, CLUSTER } from "../fakes/two-nodes.ts";

const ROWS = rowsFor(CLUSTER, A);
const NONE: TableRows = new Map();

function tablesOf(...states: (readonly TableRow[])[]): Tables {
  const tables = new Tables();
  let before = NONE;
  for (const state of states) {
    const after = rowsOf(state);
    tables.apply(diffTables(before, after));
    before = after;
  }
  return tables;
}

/** All that can be looked up. */
function contents(tables: Tables): object {
  const { node, networks, networksByGateway, endpoints, peers, peersByIngress, vips, denied, hostAddresses } = tables;
  const maps = { networks, networksByGateway, endpoints, peers, peersByIngress, vips, denied };
  const sorted = Object.entries(maps).map(([name, map]) => [name, [...map].sort(([a], [b]) => a - b)]);
  const published = PORTS.map((port) => tables.published.find(6, port, 0, true)?.ip);
  const { leastConnectionVips } = tables;
  return { node, maps: sorted, hostAddresses: [...hostAddresses].sort(), published, leastConnectionVips };
}

const PORTS = [8000, 8001, 8002];

const network = (vni: number, third: number): NetworkRow => ({
  kind: "network",
  vni,
  base: ipv4(`10.192.${third}.0`),
  mask: maskOf(24),
  gateway: ipv4(`10.192.${third}.1`),
  internal: false,
});
const peer = (last: number, ingress: number): PeerRow => ({
  kind: "peer",
  vtep: ipv4(`192.0.2.${last}`),
  port: 4789,
  ingress: ingress === 0 ? 0 : ipv4(`10.192.0.${ingress}`),
  agent: true,
  lane: true,
  mesh: true,
});
const endpoint = (last: number, vtep: number): EndpointRow => ({
  kind: "endpoint",
  ip: ipv4(`10.192.1.${last}`),
  vni: 4096,
  vtep: vtep === 0 ? 0 : ipv4(`192.0.2.${vtep}`),
});

test("the same rows make no diff, and other ones just what differs", (t) => {
  t.deepEqual(diffTables(rowsOf(ROWS), rowsOf(structuredClone(ROWS))), { put: [], delete: [] });
  const moved = { ...endpoint(5, 12), vtep: 0 };
  const before = rowsOf([endpoint(5, 12), endpoint(6, 12), network(4096, 1)]);
  t.deepEqual(diffTables(before, rowsOf([moved, network(4096, 1)])), {
    put: [moved],
    delete: [rowKey(endpoint(6, 12))],
  });
});

test("every row has a key of its own", (t) => {
  t.is(rowsOf(ROWS).size, ROWS.length);
});

test("rows that are deleted leave nothing behind", (t) => {
  t.deepEqual(contents(tablesOf(ROWS, ROWS.slice(0, 1))), contents(tablesOf(ROWS.slice(0, 1))));
});

test("a changed node row takes its old host addresses with it", (t) => {
  const [node, ...rest] = ROWS;
  if (node?.kind !== "node") return t.fail();
  const after = { ...node, hostAddresses: [ipv4("192.0.2.99")] };
  return t.deepEqual([...tablesOf(ROWS, [after, ...rest]).hostAddresses], [ipv4("192.0.2.99")]);
});

const EXCHANGES: [name: string, before: TableRow[], after: TableRow[]][] = [
  ["networks exchange their subnets", [network(4096, 1), network(4097, 2)], [network(4096, 2), network(4097, 1)]],
  ["peers exchange their ingress addresses", [peer(12, 3), peer(13, 4)], [peer(12, 4), peer(13, 3)]],
  ["a peer takes over another's ingress address", [peer(12, 3), peer(13, 4)], [peer(12, 4), peer(13, 5)]],
  ["a network takes over a removed one's subnet", [network(4096, 1), network(4097, 2)], [network(4097, 1)]],
];
for (const [name, before, after] of EXCHANGES) {
  test(`when ${name}, both are found`, (t) => {
    t.deepEqual(contents(tablesOf(before, after)), contents(tablesOf(after)));
  });
}

test("tables without a node row are not whole", (t) => {
  t.false(new Tables().areWhole);
  t.true(tablesOf(ROWS).areWhole);
});

test("an address is of the pool when its prefix is", (t) => {
  const tables = tablesOf(ROWS);
  const inPool = ["10.192.0.0", "10.255.255.255", "10.191.255.255", "11.0.0.0"].map((ip) => tables.inPool(ipv4(ip)));
  t.deepEqual(inPool, [true, true, false, false]);
  t.false(new Tables().inPool(ipv4("10.192.0.0")), "without rows nothing is");
});

const vip = (last: number, scheduler: "rr" | "lc", port: number): TableRow => ({
  ...{ kind: "vip", ip: ipv4(`10.192.1.${last}`), vni: 4096, service: "web", tasks: [], draining: [], hostMode: false },
  balancing: { scheduler, weights: [], affinitySeconds: 0, preferLocal: false },
  ports: [{ protocol: 6, published: port, target: 80, address: 0 }],
});

/** Rows in which no address, port or place is another's, as the leader gives them out. */
const state = fc
  .record({
    subnets: fc.uniqueArray(fc.integer({ min: 1, max: 5 }), { maxLength: 4 }),
    ingress: fc.uniqueArray(fc.integer({ min: 3, max: 7 }), { maxLength: 4 }),
    endpoints: fc.uniqueArray(fc.integer({ min: 2, max: 9 }), { maxLength: 6 }),
    place: fc.constantFrom(0, 12, 13),
    ports: fc.uniqueArray(fc.constantFrom(...PORTS), { maxLength: 3 }),
    scheduler: fc.constantFrom("rr", "lc"),
    denied: fc.subarray([2, 3]),
  })
  .map(({ subnets, ingress, endpoints, place, ports, scheduler, denied }): TableRow[] => [
    ...ports.map((port, i) => vip(100 + i, scheduler, port)),
    ...denied.map((last): TableRow => ({ kind: "denied", ip: ipv4(`192.0.2.${last}`), ports: [] })),
    ...subnets.map((third, i) => network(4096 + i, third)),
    ...ingress.map((last, i) => peer(12 + i, last)),
    ...endpoints.map((last) => endpoint(last, place)),
  ]);

test("whatever diffs led to them, tables are those of the last rows", (t) => {
  const property = fc.property(fc.array(state, { minLength: 1, maxLength: 6 }), (states) => {
    t.deepEqual(contents(tablesOf(...states)), contents(tablesOf(states.at(-1)!)));
  });
  t.notThrows(() => fc.assert(property, { numRuns: 300 }));
});
