// Links, pins, the probe and the bpf file system against a real kernel: bpf-scenarios.ts, each in an empty network namespace,
// with mounts of its own.
import { fileURLToPath } from "node:url";
import { bpfTest } from "../fakes/bpf-test.ts";
import { scenarios } from "./bpf-scenarios.ts";
import { run } from "./command.ts";

const script = fileURLToPath(new URL("bpf-scenarios.js", import.meta.url));

for (const title of Object.keys(scenarios)) {
  bpfTest(title, async (t) => {
    await t.notThrowsAsync(run(["unshare", "--net", "--mount", process.execPath, script, title]));
  });
}
