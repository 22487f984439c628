// Docker Swarm's manager, as the bench holds the control plane against it: nothing of it is left behind.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { Swarm } from "../../bench/swarm.ts";
import { run } from "./command.ts";
import { engineTest } from "./engine-test.ts";

const SWARM = fileURLToPath(new URL("../../bench/swarm.js", import.meta.url));
const START = `
  const { Swarm } = await import(${JSON.stringify(SWARM)});
  await (await Swarm.start()).createService("lost");
  console.log("started");
`;

async function leftBehind(): Promise<string[]> {
  const mounts = readFileSync("/proc/self/mounts", "utf8").split("\n");
  const processes = (await run(["ps", "-eo", "args"])).split("\n");
  return [...mounts, ...processes].filter((line) => line.includes("overlayd-bench-swarm"));
}

engineTest("a manager takes services, also after a run that was killed, and is removed as a whole", async (t) => {
  const killed = spawn(process.execPath, ["--input-type=module", "-e", START], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  await once(killed.stdout!, "data");
  killed.kill("SIGKILL");
  await once(killed, "close");
  t.not((await leftBehind()).length, 0);
  const swarm = await Swarm.start();
  try {
    await swarm.createService("one");
    await t.throwsAsync(swarm.createService("one"), { message: /name conflicts/ });
    await swarm.createService("lost"); // nothing is known of the run that was killed
    t.true(swarm.residentMegabytes() > 10);
  } finally {
    await swarm.remove();
  }
  t.deepEqual(await leftBehind(), []);
  t.false(existsSync("/run/netns/bench-swarm"));
});
