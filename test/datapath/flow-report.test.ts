// What the flow table says of live flows: the list that a person reads, and the flows that keep a task which is to stop.
import test from "ava";
import { FlowState } from "../../src/datapath/flow-entries.ts";
import { countLiveFlows, listFlows } from "../../src/datapath/flow-report.ts";
import { FlowTable } from "../../src/datapath/flow-table.ts";
import { ipv4 } from "../../src/lib/ip.ts";
import { reserve } from "../fakes/flows.ts";

const CLIENT = ipv4("10.192.32.10");
const VIP = ipv4("10.192.32.2");
const TASK = ipv4("10.192.32.20");
const PORTS = (40_000 << 16) | 80;
const REPLY_PORTS = (8080 << 16) | 40_000;

function table(): FlowTable {
  return FlowTable.open(new ArrayBuffer(FlowTable.bytesFor(8)), 8, 1);
}

function add(flows: FlowTable, protocol: number, created: number, vip = 0): number {
  const entry = reserve(flows, [created, protocol, CLIENT, vip || TASK, PORTS], [0, TASK, CLIENT, REPLY_PORTS]);
  flows.setPath(entry, 0, ipv4("192.0.2.12"), 4096);
  flows.setVip(entry, vip);
  flows.setCreated(entry, created);
  flows.setLastSeen(entry, created);
  flows.publish(entry, protocol === 6 ? FlowState.TimeWait : FlowState.Unreplied);
  return entry;
}

test("a flow through a VIP says who asked, for what, and who answers", (t) => {
  const flows = table();
  const entry = add(flows, 6, 100, VIP);
  flows.count(entry, 1, 60, 130);
  flows.count(entry + 1, 2, 3000, 140);
  t.deepEqual(listFlows(flows, 150.7, 10), [
    {
      protocol: "tcp",
      client: "10.192.32.10:40000",
      destination: "10.192.32.2:80",
      server: "10.192.32.20:8080",
      vip: "10.192.32.2",
      clientVtep: null,
      serverVtep: "192.0.2.12",
      state: "time-wait",
      lane: null,
      ageSeconds: 50,
      idleSeconds: 10,
      packets: 3,
      bytes: 3060,
    },
  ]);
});

for (const [protocol, name, client] of [
  [17, "udp", "10.192.32.10:40000"],
  [1, "icmp", "10.192.32.10"],
  [47, 47, "10.192.32.10"],
] as const) {
  test(`a flow of protocol ${name} is named so, ${client.includes(":") ? "with" : "without"} ports`, (t) => {
    const flows = table();
    add(flows, protocol, 100);
    t.like(listFlows(flows, 100, 10)[0], { protocol: name, client, vip: null, state: "unreplied" });
  });
}

test("the newest flows come first, and no more than asked for; removed ones are not there", (t) => {
  const flows = table();
  const entries = [5, 9, 7, 8].map((created) => add(flows, 17, created));
  flows.removeLocked(entries[3]!);
  const ages = listFlows(flows, 10, 2).map(({ ageSeconds }) => ageSeconds);
  t.deepEqual(ages, [1, 3]);
  t.is(listFlows(flows, 10, 100).length, 3);
});

test("a clock that stands behind the flow's makes no negative age", (t) => {
  const flows = table();
  add(flows, 17, 100);
  t.like(listFlows(flows, 90, 1)[0], { ageSeconds: 0, idleSeconds: 0 });
});

const OTHER = ipv4("10.192.32.21");

const rows: [
  title: string,
  protocol: number,
  state: FlowState,
  server: number,
  idleSeconds: number,
  counts: boolean,
][] = [
  ["a connection", 6, FlowState.Established, TASK, 0, true],
  ["a connection that is silent for an hour", 6, FlowState.Established, TASK, 3600, true],
  ["a connection that begins", 6, FlowState.SynSent, TASK, 0, true],
  ["one whose client has nothing more to say", 6, FlowState.FinWait, TASK, 0, true],
  ["one that both sides have closed", 6, FlowState.TimeWait, TASK, 0, false],
  ["one that was reset", 6, FlowState.Closed, TASK, 0, false],
  ["another task's", 6, FlowState.Established, OTHER, 0, false],
  ["datagrams of this moment", 17, FlowState.Replied, TASK, 1, true],
  ["datagrams of a while ago", 17, FlowState.Replied, TASK, 10, false],
];
for (const [title, protocol, state, server, idleSeconds, counts] of rows) {
  test(`${title} ${counts ? "keeps" : "does not keep"} the task`, (t) => {
    const flows = FlowTable.open(new ArrayBuffer(FlowTable.bytesFor(8)), 8, 1);
    const entry = reserve(flows, [0, protocol, CLIENT, server, PORTS], [0, server, CLIENT, REPLY_PORTS]);
    flows.setLastSeen(entry, 5000 - idleSeconds);
    flows.publish(entry, state);
    t.is(countLiveFlows(flows, [TASK], 5000), counts ? 1 : 0);
  });
}
