// Flows by the names that a person knows, and which of them a filter leaves.
import test from "ava";
import { flowViews } from "../../src/agent/flow-views.ts";
import type { FlowFilter } from "../../src/api/schema.ts";
import { emptyState } from "../../src/cluster/state.ts";
import type { FlowRow } from "../../src/datapath/flow-report.ts";
import { UserError } from "../../src/lib/errors.ts";
import { nodeRow, put, serviceRow, taskRow } from "../api/fake-backend.ts";
import { applyChanges } from "../fakes/apply-changes.ts";

const STATE = applyChanges(
  emptyState(),
  [
    put.node(nodeRow("node1")),
    put.node(nodeRow("node2")),
    put.service(serviceRow("search", { meshVip: "10.192.0.9" })),
    put.service(serviceRow("other", { vips: {} })),
    put.task(taskRow("search", 1, "node1")),
    put.task(taskRow("search", 2, "node2")),
  ],
  1,
);
const row = (over: Partial<FlowRow>): FlowRow => ({
  protocol: "tcp",
  client: "192.0.2.100:40000",
  destination: "10.192.0.9:9200",
  server: "10.192.32.11:9200",
  vip: "10.192.0.9",
  clientVtep: null,
  serverVtep: null,
  state: "established",
  lane: "both",
  ageSeconds: 2,
  idleSeconds: 0,
  packets: 3,
  bytes: 4,
  ...over,
});
const FLOWS = [
  row({}),
  row({ server: "10.192.32.12:9200", serverVtep: "192.0.2.12" }),
  row({
    client: "10.192.32.12:5",
    destination: "198.51.100.1:53",
    server: "198.51.100.1:53",
    vip: null,
    protocol: "udp",
  }),
];

const rows: [
  title: string,
  filter: Partial<FlowFilter>,
  expected: [service: string | null, task: string | null, node: string | null][],
][] = [
  [
    "all",
    {},
    [
      ["search", "search.1", "node1"],
      ["search", "search.2", "node2"],
      [null, null, "node1"],
    ],
  ],
  [
    "those of a service",
    { service: "search" },
    [
      ["search", "search.1", "node1"],
      ["search", "search.2", "node2"],
    ],
  ],
  [
    "those of a service by the beginning of its id",
    { service: "searchx" },
    [
      ["search", "search.1", "node1"],
      ["search", "search.2", "node2"],
    ],
  ],
  ["none of a service without any", { service: "other" }, []],
  [
    "those of a task, from it as well as to it",
    { endpoint: "search.2" },
    [
      ["search", "search.2", "node2"],
      [null, null, "node1"],
    ],
  ],
  ["those of an address", { endpoint: "10.192.32.11" }, [["search", "search.1", "node1"]]],
  ["at most so many", { limit: 1 }, [["search", "search.1", "node1"]]],
];
for (const [title, filter, expected] of rows) {
  test(`flows are listed: ${title}`, (t) => {
    const views = flowViews(STATE, "node1", FLOWS, { limit: 100, ...filter });
    t.deepEqual(
      views.map(({ service, task, node }) => [service, task, node]),
      expected,
    );
  });
}

test("a service that nobody knows is an error, with the one that may be meant", (t) => {
  const call = () => flowViews(STATE, "node1", FLOWS, { limit: 100, service: "serch" });
  t.throws(call, { instanceOf: UserError, message: "no such service: serch; did you mean 'search'?" });
});

test("an endpoint that nobody knows is an error, not an empty list", (t) => {
  const call = () => flowViews(STATE, "node1", FLOWS, { limit: 100, endpoint: "serch.1" });
  t.throws(call, { instanceOf: UserError, message: /no such endpoint: serch\.1/ });
});
