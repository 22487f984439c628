// Links, pins, the probe and the bpf file system against a real kernel: bpf-scenarios.ts, each in an empty network namespace,
// with mounts of its own.
import { fileURLToPath } from "node:url";
import { scenarios } from "./bpf-scenarios.ts";
import { run } from "./command.ts";
import { systemTest } from "./system-test.ts";

const script = fileURLToPath(new URL("bpf-scenarios.js", import.meta.url));

for (const title of Object.keys(scenarios)) {
  systemTest(title, async (t) => {
    await t.notThrowsAsync(run(["unshare", "--net", "--mount", process.execPath, script, title]));
  });
}
