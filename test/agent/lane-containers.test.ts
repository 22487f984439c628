// A container whose link is another one than before: what was written for the old link is void before a program is on the new one.
import { ExpressLane } from "../../src/agent/express-lane.ts";
import { sumOfGrounds } from "../../src/express/grounds.ts";
import { GROUNDS_SHAPE } from "../../src/express/layout.ts";
import { systemClock } from "../../src/lib/clock.ts";
import { cidr, type Ipv4, ipv4 } from "../../src/lib/ip.ts";
import { silentLog } from "../../src/lib/log.ts";
import { vethName } from "../../src/links/desired.ts";
import { mapArray } from "../../src/linux/bpf-array.ts";
import { bpfTest } from "../fakes/bpf-test.ts";

const MOVED = "10.192.32.10";
const STAYS = "10.192.32.11";
/** Indexes that no link of this machine has: nothing is attached. */
const NO_LINKS = 2_000_000_000;

/** Links of containers, which tell when they are asked for. */
class WatchedLinks extends Map<string, number> {
  onAsked = (): void => {};

  override values(): MapIterator<number> {
    this.onAsked();
    return super.values();
  }
}

bpfTest("the entries of a container whose link has changed are void before its new link is looked at", (t) => {
  const lane = new ExpressLane(
    {
      directory: "/nonexistent",
      entries: 64,
      port: 4789,
      pool: cidr("10.192.0.0/10"),
      clock: systemClock,
      log: silentLog,
    },
    undefined,
  );
  t.teardown(() => lane.stop());
  const grounds = mapArray(lane.setup.maps.grounds, GROUNDS_SHAPE);
  t.teardown(() => grounds.close());
  const sumOf = (address: string): number => sumOfGrounds(new Int32Array(grounds.buffer), ipv4(address), 0, 0, 0, 0);
  const linksAt = (moved: number): WatchedLinks =>
    new WatchedLinks([
      [vethName(MOVED), NO_LINKS + moved],
      [vethName(STAYS), NO_LINKS],
    ]);
  const told: Ipv4[][] = [];
  lane.onMoved = (addresses) => told.push([...addresses]);
  lane.setContainers(linksAt(1));
  const before = [sumOf(MOVED), sumOf(STAYS)];
  const next = linksAt(2);
  const seen: number[][] = [];
  next.onAsked = () => seen.push([sumOf(MOVED), sumOf(STAYS)]);
  lane.setContainers(next);
  t.true(seen.length > 0);
  for (const sums of seen) t.deepEqual(sums, [before[0]! + 1, before[1]!]);
  t.deepEqual(told, [[ipv4(MOVED)]]);
});
