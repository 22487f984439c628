// What an earlier agent left in force is replaced only when the agent has heard a leader and the engine.
import test from "ava";
import { Sync, type SyncParts } from "../../src/agent/in-force.ts";
import { emptyState } from "../../src/cluster/state.ts";
import { createLog } from "../../src/lib/log.ts";
import { VirtualClock } from "../fakes/virtual-clock.ts";

function setUp(isThere: boolean) {
  const clock = new VirtualClock();
  let applied = 0;
  const parts: SyncParts = {
    log: createLog("silent"),
    clock,
    device: "overlay0",
    pool: "10.192.0.0/10",
    mtu: 1450,
    meshOn: true,
    nodeServices: true,
    managers: () => [],
    adoptsLinks: true,
    nodeId: () => "0000000000000000000000001",
    hostAddresses: () => [],
    sandboxes: async () => new Map(),
    dataPath: { replaceBy: async () => {} },
    links: { apply: async () => new Map() },
    mesh: {
      isThere: async () => isThere,
      apply: async () => {
        applied++;
        return [];
      },
    },
    dns: { listen: async () => {} },
    naming: () => ({ domain: "overlay", resolver: { nameservers: [], search: [], options: [] } }),
    tasks: { apply: () => {}, removeOthers: () => {} },
    observed: () => {},
    applied: () => {},
  };
  return { clock, sync: new Sync(parts), applied: () => applied };
}

test("the table of published ports of an agent before stays until a leader was heard", async (t) => {
  const { clock, sync, applied } = setUp(true);
  sync.update(emptyState(), false);
  sync.begin();
  await clock.advance(1000);
  t.is(applied(), 0, "a snapshot from disk may lack a port");
  sync.update(emptyState(), true);
  await clock.advance(1000);
  t.true(applied() > 0);
  await sync.stop();
});

test("where no leader answers, it is as the snapshot says after fifteen seconds", async (t) => {
  const { clock, sync, applied } = setUp(true);
  sync.update(emptyState(), false);
  sync.begin();
  await clock.advance(16_000);
  t.true(applied() > 0);
  await sync.stop();
});

test("where there is no such table it is made at once", async (t) => {
  const { clock, sync, applied } = setUp(false);
  sync.update(emptyState(), false);
  sync.begin();
  await clock.advance(1000);
  t.true(applied() > 0);
  await sync.stop();
});
