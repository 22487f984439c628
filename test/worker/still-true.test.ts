// A node whose data path takes no new tables sends nothing to addresses that other containers may have by now.
import test from "ava";
import type { TableRow, TableRows } from "../../src/datapath/rows.ts";
import { formatIpv4, ipv4 } from "../../src/lib/ip.ts";
import { stillTrue } from "../../src/worker/still-true.ts";
import { type Cluster, rowsFor } from "../fakes/nodes.ts";
import { rowsOf } from "../fakes/rows-of.ts";

const before: Cluster = {
  nodes: { "192.0.2.11": "10.192.0.2", "192.0.2.12": "10.192.0.3", "192.0.2.13": "10.192.0.4" },
  networks: { 4096: { subnet: "10.200.0.0/24" }, 4097: { subnet: "10.201.0.0/24" } },
  endpoints: {
    "10.200.0.5": { vtep: "192.0.2.11", vni: 4096 },
    "10.200.0.6": { vtep: "192.0.2.12", vni: 4096 },
    "10.200.0.7": { vtep: "192.0.2.12", vni: 4096 },
    "10.201.0.5": { vtep: "192.0.2.13", vni: 4097 },
  },
  vips: {
    "10.200.0.100": { vni: 4096, tasks: ["10.200.0.6", "10.200.0.7"] },
    "10.200.0.101": { vni: 4096, tasks: ["10.200.0.5"] },
  },
};

function rows(cluster: Cluster): TableRows {
  return rowsOf(rowsFor(cluster, "192.0.2.11"));
}

function addresses(kept: TableRows, kind: "endpoint" | "vip"): string[] {
  return [...kept.values()].flatMap((row: TableRow) => (row.kind === kind ? [formatIpv4(row.ip)] : [])).sort();
}

test("unchanged tables are kept whole", (t) => {
  t.deepEqual(stillTrue(rows(before), rows(before)), rows(before));
});

test("addresses that were released, moved to another node, or belong to another service are dropped, and the rest goes on", (t) => {
  const { "10.200.0.7": _, ...endpoints } = before.endpoints;
  const moved = { ...endpoints, "10.201.0.5": { vtep: "192.0.2.12", vni: 4097 } };
  const added = { ...moved, "10.200.0.9": { vtep: "192.0.2.13", vni: 4096 } };
  const vips = { "10.200.0.100": { vni: 4096, tasks: ["10.200.0.6", "10.200.0.9"] } };
  const { "192.0.2.13": __, ...nodes } = before.nodes;
  const kept = stillTrue(rows(before), rows({ ...before, nodes, endpoints: added, vips }));
  t.deepEqual(addresses(kept, "endpoint"), ["10.200.0.5", "10.200.0.6"]);
  t.deepEqual(addresses(kept, "vip"), ["10.200.0.100"]);
  const vip = kept.get(`vip ${ipv4("10.200.0.100")}`);
  t.deepEqual(vip?.kind === "vip" && [vip.tasks, vip.balancing.weights], [[ipv4("10.200.0.6")], [1]]);
  t.false(kept.has(`peer ${ipv4("192.0.2.13")}`));
  t.true(kept.has("node"));
});
