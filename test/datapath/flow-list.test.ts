// Live flows as a person reads them.
import test from "ava";
import { FlowState } from "../../src/datapath/flow-entries.ts";
import { listFlows } from "../../src/datapath/flow-list.ts";
import { FlowTable } from "../../src/datapath/flow-table.ts";
import { ipv4 } from "../../src/lib/ip.ts";

const CLIENT = ipv4("10.192.32.10");
const VIP = ipv4("10.192.32.2");
const TASK = ipv4("10.192.32.20");
const PORTS = (40_000 << 16) | 80;
const REPLY_PORTS = (8080 << 16) | 40_000;

function table(): FlowTable {
  return FlowTable.open(new ArrayBuffer(FlowTable.bytesFor(8)), 8, 1);
}

function add(flows: FlowTable, protocol: number, created: number, vip = 0): number {
  const entry = flows.reserve(created, protocol, CLIENT, vip || TASK, PORTS, 0, TASK, CLIENT, REPLY_PORTS);
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
