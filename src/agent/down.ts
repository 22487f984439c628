// `overlayd down`: takes away everything that an agent left in place so that the next one could adopt it.
import { rm } from "node:fs/promises";
import { systemClock } from "../lib/clock.ts";
import type { Log } from "../lib/log.ts";
import { Links } from "../links/links.ts";
import { lockDevice } from "../linux/lock.ts";
import { createMesh } from "../mesh/mesh.ts";
import { ProcessRuntime } from "../runtime/process.ts";
import { Sandboxes } from "../runtime/sandbox.ts";
import type { Config } from "./config.ts";
import { places } from "./places.ts";

/**
 * Ends the node's tasks, and removes their namespaces, links, rules, the TUN and the flows. What the node knows of the
 * cluster stays. Throws PlatformError while an agent runs.
 */
export async function takeDown(config: Config, log: Log): Promise<void> {
  const { device, node } = config;
  const lock = lockDevice(device);
  const alive = setInterval(() => {}, 60_000); // the clock's timers do not keep the process
  try {
    const where = places(config);
    const sandboxes = new Sandboxes({ node: node.name, kind: "task" });
    const options = { directory: where.tasks, sandboxes, clock: systemClock, log, path: "" };
    const runtime = new ProcessRuntime(options);
    await runtime.prune(() => []);
    runtime.close();
    await new Sandboxes({ node: node.name, kind: "run" }).prune(() => []);
    await rm(where.run, { recursive: true, force: true });
    await (await createMesh({ log, clock: systemClock })).remove();
    await new Links({ log, clock: systemClock, device }).removeAll();
    await rm(where.flows, { force: true });
  } finally {
    clearInterval(alive);
    lock.release();
  }
}
