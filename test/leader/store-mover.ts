// A process that leads from a file, takes writes, and moves its state to another store, until it kills itself before the
// step that it is told: for move-store.test.ts. It says each network that was acknowledged.

import { writeSync } from "node:fs";
import { rm } from "node:fs/promises";
import { join } from "node:path";
import { openEmbeddedStore } from "../../src/leader/embedded-store.ts";
import { Leader } from "../../src/leader/leader.ts";
import { moveStore } from "../../src/leader/move-store.ts";
import { systemClock } from "../../src/lib/clock.ts";
import { silentLog } from "../../src/lib/log.ts";
import { newId } from "../../src/lib/random.ts";
import { found, SEAL_KEY } from "../fakes/founding.ts";
import { LEADER_CONFIG } from "./cluster-fixture.ts";
import { identityOf } from "./fake-node.ts";

const [directory, lastStep] = process.argv.slice(2) as [string, string];
const [clock, log] = [systemClock, silentLog];
const from = await openEmbeddedStore(join(directory, "from"), SEAL_KEY);
await found(from, { identity: identityOf(1), newId });
const leader = new Leader({ store: from, clock, log, newId, config: LEADER_CONFIG });
await leader.start();

let isMoved = false;
const writing = (async () => {
  for (let i = 0, after = 0; after < 5; i++, after += Number(isMoved)) {
    const name = `n${process.pid}-${i}`;
    await leader.execute({ type: "network.create", name });
    writeSync(1, `${name}\n`);
  }
})();
await moveStore({
  ...{ from, leader, clock, log },
  target: {
    check: async () => {},
    begin: async () => ({ store: await openEmbeddedStore(join(directory, "to"), SEAL_KEY), id: "to" }),
    join: async () => {},
    discard: () => rm(join(directory, "to"), { recursive: true, force: true }),
  },
  step: (step) => {
    if (step === lastStep) process.kill(process.pid, "SIGKILL");
  },
});
isMoved = true;
await writing;
process.kill(process.pid, "SIGKILL");
