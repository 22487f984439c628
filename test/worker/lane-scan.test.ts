// What the main thread takes over of a lane in the real kernel, and adds to the workers' report.
import type { ExecutionContext } from "ava";
import type { EngineReport } from "../../src/datapath/engine-report.ts";
import { Ride } from "../../src/datapath/express-marks.ts";
import { Origin } from "../../src/express/layout.ts";
import { cidr, ipv4 } from "../../src/lib/ip.ts";
import { silentLog } from "../../src/lib/log.ts";
import { LaneScan } from "../../src/worker/lane-scan.ts";
import { bpfTest, useRig } from "../express/bpf-test.ts";
import { LaneFlows } from "../express/lane-flows.ts";
import { CLIENT_PORT, ethernet, LOCAL, PEER, POOL, SERVER_PORT, VIP } from "../express/lane-rig.ts";
import { ACK, ipPacket } from "../fakes/ip-packets.ts";
import { VirtualClock } from "../fakes/virtual-clock.ts";

const ENTRIES = 64;
const REQUEST = ipPacket({
  ...{ source: LOCAL, destination: VIP, sourcePort: CLIENT_PORT, destinationPort: SERVER_PORT, flags: ACK },
  payload: new Uint8Array(100),
});
const NOTHING = { rxPackets: 0, txPackets: 0, rxBytes: 0, txBytes: 0 };
const REPORT = {
  traffic: [{ vtep: ipv4(PEER), ...NOTHING, txPackets: 5, txBytes: 500 }],
  express: { packets: 7, bytes: 700, entered: 2, taken: 1, entries: 0, stalled: 0 },
} as EngineReport;

/** A scan that has looked at a lane without entries once. */
async function scanEmptyLane(t: ExecutionContext) {
  const rig = useRig(t);
  const flows = new LaneFlows(rig);
  t.teardown(() => flows.installer.close());
  const clock = new VirtualClock();
  const setup = { maps: rig.maps, capacity: ENTRIES, isAdopted: false };
  const scan = new LaneScan({ setup, flows: flows.table, pool: cidr(POOL), log: silentLog, clock });
  t.teardown(() => scan.close());
  await scan.look();
  return { rig, flows, clock, scan };
}

bpfTest("a look takes over what the lane has counted, and the report has it once", async (t) => {
  const { rig, flows, clock, scan } = await scanEmptyLane(t);
  t.is(scan.entries, 0, "an empty lane");
  const entry = flows.add();
  flows.enter(entry);
  flows.enter(entry + 1);
  flows.installer.flush();
  const send = () => rig.run(Origin.Container, ethernet(REQUEST));
  send();
  send();
  await Promise.all([scan.look(), scan.look(), scan.look()]);
  t.deepEqual(scan.addTo(REPORT), {
    traffic: [{ ...REPORT.traffic[0]!, txPackets: 7, txBytes: 780 }],
    express: { packets: 9, bytes: 980, entered: 2, taken: 1, entries: 2, stalled: 0 },
  } as EngineReport);
  send();
  await scan.look(1000);
  t.is(flows.table.packetsOf(entry), 2, "that is not old enough");
  await clock.advance(1000);
  await scan.look(1000);
  t.is(flows.table.packetsOf(entry), 3);
  send();
  await clock.advance(10_000);
  await new Promise((resolve) => setTimeout(resolve));
  await scan.look(60_000);
  t.is(flows.table.packetsOf(entry), 4, "it looks from time to time by itself");
  const gone = scan.addTo({ ...REPORT, traffic: [] });
  t.deepEqual([gone.traffic, gone.express.packets], [[], 11]);
  t.deepEqual(scan.addTo(REPORT).traffic, REPORT.traffic, "a peer that comes again begins anew");
});

bpfTest("a flow is suspected by the scan's own clock: a peer that was away before makes no difference", async (t) => {
  const { rig, flows, clock, scan } = await scanEmptyLane(t);
  scan.setUnreachable([ipv4(PEER)]);
  scan.setUnreachable([]);
  const entry = flows.add();
  flows.enter(entry);
  flows.enter(entry + 1);
  flows.installer.flush();
  for (let i = 0; i < 4; i++) {
    rig.run(Origin.Container, ethernet(REQUEST));
    await clock.advance(2000);
    await scan.look();
  }
  await scan.look();
  t.is(flows.table.rideOf(entry) & Ride.Both, Ride.None, "nothing came back");
  t.is(scan.entries, 0, "its entries are out of the lane");
});
