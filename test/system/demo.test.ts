// The demo, as a newcomer runs it.
import { existsSync, readdirSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { DEADLINE_MS, tryRun } from "./command.ts";
import { systemTest } from "./system-test.ts";

/** It takes many steps, each with a deadline of its own. */
const DEMO_MS = 5 * DEADLINE_MS;

systemTest("the demo ends with no check failed, and leaves nothing behind", async (t) => {
  const before = namespaces();
  const demo = fileURLToPath(new URL("../../scripts/demo.js", import.meta.url));
  const { status, stdout, stderr } = await tryRun([process.execPath, demo], { timeoutMs: DEMO_MS });
  const last = stdout.trimEnd().split("\n").at(-1);
  t.regex(last!, /^demo: \d+ checks, 0 failed$/, `${stdout}${stderr}`);
  t.is(status, 0);
  t.deepEqual(namespaces(), before);
});

/** The namespaces that are there under the names that the demo uses. */
function namespaces(): string[] {
  const all = existsSync("/run/netns") ? readdirSync("/run/netns") : [];
  return all.filter((name) => /^(demo-|ovl-node[123][-.])/.test(name)).sort();
}
