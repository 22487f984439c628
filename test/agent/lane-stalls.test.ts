// A peer with which the express lane is at fault, as a person hears of it.
import test from "ava";
import { followStalls } from "../../src/agent/lane-stalls.ts";
import { type Ipv4, ipv4 } from "../../src/lib/ip.ts";
import type { Log } from "../../src/lib/log.ts";
import { silentLog } from "../../src/lib/log.ts";

test("the log names a peer once with what to do, and again when the lane was turned on in between", (t) => {
  const said: string[] = [];
  const log: Log = { ...silentLog, warn: (message, fields) => void said.push(`${fields?.node} ${message}`) };
  const lane = { stalled: new Set<Ipv4>() as ReadonlySet<Ipv4>, onRetry: () => {} };
  let forgot = 0;
  const dataPath = { onAvoid: (_: readonly Ipv4[]) => {}, forgetStalls: () => void forgot++ };
  const names = new Map([["192.0.2.12", "node2"]]);
  followStalls({ log, lane, dataPath, nameOf: (address) => names.get(address) });
  const [peer, other] = [ipv4("192.0.2.12"), ipv4("192.0.2.13")];
  dataPath.onAvoid([peer]);
  dataPath.onAvoid([]);
  t.deepEqual([...lane.stalled], []);
  dataPath.onAvoid([peer, other]);
  t.deepEqual([...lane.stalled], [peer, other]);
  t.deepEqual(
    said.map((line) => line.split(" ")[0]),
    ["node2", "unknown"],
  );
  t.regex(
    said[0]!,
    /find what drops VXLAN frames without an outer UDP checksum on the way, then 'overlayctl express on'/,
  );
  lane.onRetry();
  t.is(forgot, 1);
  dataPath.onAvoid([peer]);
  t.is(said.length, 3);
});
