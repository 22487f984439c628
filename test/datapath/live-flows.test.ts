// Which flows keep a task that is to stop.
import test from "ava";
import { FlowState } from "../../src/datapath/flow-entries.ts";
import { FlowTable } from "../../src/datapath/flow-table.ts";
import { countLiveFlows } from "../../src/datapath/live-flows.ts";
import { ipv4 } from "../../src/lib/ip.ts";

const CLIENT = ipv4("10.192.32.10");
const TASK = ipv4("10.192.32.20");
const OTHER = ipv4("10.192.32.21");
const PORTS = (40_000 << 16) | 80;
const REPLY_PORTS = (80 << 16) | 40_000;

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
    const entry = flows.reserve(0, protocol, CLIENT, server, PORTS, 0, server, CLIENT, REPLY_PORTS);
    flows.setLastSeen(entry, 5000 - idleSeconds);
    flows.publish(entry, state);
    t.is(countLiveFlows(flows, [TASK], 5000), counts ? 1 : 0);
  });
}
