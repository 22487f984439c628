// The TUN and the underlay against a real kernel: device-scenarios.ts, each in an empty network namespace, with mounts of its own.
import { fileURLToPath } from "node:url";
import { run } from "./command.ts";
import { scenarios } from "./device-scenarios.ts";
import { systemTest } from "./system-test.ts";

/** For the scenario that measures garbage: a young generation that is not collected meanwhile. */
const flags = ["--expose-gc", "--min-semi-space-size=64", "--max-semi-space-size=64"];
const script = fileURLToPath(new URL("device-scenarios.js", import.meta.url));

for (const title of Object.keys(scenarios)) {
  systemTest(title, async (t) => {
    await t.notThrowsAsync(run(["unshare", "--net", "--mount", process.execPath, ...flags, script, title]));
  });
}
