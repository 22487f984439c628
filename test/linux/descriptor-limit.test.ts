// The limit of open files, in processes that were started with little.
import { spawnSync } from "node:child_process";
import test from "ava";

const MODULE = new URL("../../src/linux/descriptor-limit.js", import.meta.url);

/** Raises the limit to `wanted` in a process that may open `hard` files. Returns what that process says, and what the kernel says. */
function raisedIn(hard: number, wanted: number): [said: number, soft: number] {
  const script = `
    const { raiseDescriptorLimit } = await import("${MODULE}");
    const said = raiseDescriptorLimit(${wanted});
    const { readFileSync } = await import("node:fs");
    console.log(JSON.stringify([said, Number(/Max open files +(\\d+)/.exec(readFileSync("/proc/self/limits", "utf8"))[1])]));`;
  const words = [process.execPath, "--input-type=module", "-e", script];
  const { stdout, stderr } = spawnSync("sh", ["-c", `ulimit -n ${hard}; exec "$@"`, "sh", ...words], {
    encoding: "utf8",
  });
  if (stdout === "") throw new Error(stderr);
  return JSON.parse(stdout) as [number, number];
}

test("where it is high enough it stays as it is", (t) => {
  t.deepEqual(raisedIn(900, 800), [900, 900]);
});

test("beyond the hard limit it is raised where this process may, and told as it is where not", (t) => {
  const { status } = spawnSync("sh", ["-c", "ulimit -n 900 && ulimit -n 5000"]);
  const limit = status === 0 ? 5000 : 900;
  t.deepEqual(raisedIn(900, 5000), [limit, limit]);
});
