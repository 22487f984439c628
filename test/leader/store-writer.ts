// A process that commits until it is killed, and says each revision that was acknowledged: for embedded-store.test.ts.
import { writeSync } from "node:fs";
import { openEmbeddedStore } from "../../src/leader/embedded-store.ts";
import { putNetwork } from "../cluster/rows.ts";

const store = await openEmbeddedStore(process.argv[2]!);
await store.campaign();
let { revision } = await store.load();
for (;;) {
  revision++;
  await store.commit([putNetwork(revision), putNetwork(revision % 50)], revision);
  writeSync(1, `${revision}\n`);
}
