// `overlayd down`: takes away everything that an agent left in place so that the next one could adopt it.
import { rm } from "node:fs/promises";
import { etcdPaths } from "../leader/etcd-command.ts";
import { allOf } from "../lib/all-of.ts";
import { systemClock } from "../lib/clock.ts";
import { exists } from "../lib/exists.ts";
import type { Log } from "../lib/log.ts";
import { replaceFile } from "../lib/replace-file.ts";
import { Links } from "../links/links.ts";
import { lockDevice } from "../linux/lock.ts";
import { ForwardPolicy } from "../mesh/forward-policy.ts";
import { NftablesMesh } from "../mesh/nftables-mesh.ts";
import { DockerRuntime } from "../runtime/docker.ts";
import { DockerEngine } from "../runtime/docker-engine.ts";
import { DockerWatch } from "../runtime/docker-watch.ts";
import { ProcessRuntime } from "../runtime/process.ts";
import { ProcessWatch } from "../runtime/process-watch.ts";
import { Sandboxes } from "../runtime/sandbox.ts";
import { SupervisedChild } from "../runtime/supervised-child.ts";
import { readSnapshot } from "../session/snapshot-file.ts";
import type { Config } from "./config.ts";
import { readDirectoryId } from "./directory-id.ts";
import { removeExpressLane } from "./express-lane.ts";
import { removeFlowFile, secretsOf } from "./flow-file.ts";
import { readIdentity, withOwnName } from "./identity.ts";
import { pathsOf } from "./paths.ts";

/**
 * Ends the node's tasks, and removes their namespaces, links, rules, the TUN and the flows. What the node knows of the
 * cluster stays. Throws PlatformError while an agent runs, and what could not be taken away once the rest is.
 */
export async function takeDown(config: Config, log: Log): Promise<void> {
  const { device, node } = config;
  const lock = lockDevice(device, log);
  const alive = setInterval(() => {}, 60_000); // the clock's timers do not keep the process
  try {
    const where = pathsOf(config);
    const sandboxes = new Sandboxes({ node: node.name, kind: "task" });
    await allOf([
      () => removeContainers(config, sandboxes, log),
      async () => {
        const processes = new ProcessWatch({ clock: systemClock, log });
        const options = { directory: where.tasks, sandboxes, clock: systemClock, log, path: "", processes };
        const runtime = new ProcessRuntime(options);
        await runtime.prune(() => []);
        runtime.close();
      },
      () => new Sandboxes({ node: node.name, kind: "run" }).prune(() => []),
      () => new Sandboxes({ node: node.name, kind: "attached" }).unbindOthers([]),
      () => rm(where.run, { recursive: true, force: true }),
      () => stopEtcd(where.etcd, log),
      () => new ForwardPolicy({ log, device }).close(),
      () => new NftablesMesh({ log, clock: systemClock }).remove(),
      () => new Links({ log, clock: systemClock, device }).removeAll(),
      async () => removeExpressLane(where.bpf),
      async () => removeFlowFile(config),
    ]);
  } finally {
    clearInterval(alive);
    lock.release();
  }
}

/**
 * Does what takeDown does, and forgets the cluster with all that the node was given there, so that it can join another one. A
 * file says that this is under way: an agent that was stopped meanwhile goes on with it (`finishLeaving`).
 */
export async function leaveCluster(config: Config, log: Log): Promise<void> {
  const { leaving, snapshot, detached, settings, store, copy, etcd, tookOver, ledBy, identity } = pathsOf(config);
  await replaceFile(leaving, "");
  await takeDown(config, log);
  const state = [snapshot, store, copy, etcd, tookOver, ledBy, secretsOf(config.dataDir)];
  for (const path of [identity, ...state, detached, settings, leaving]) {
    await rm(path, { recursive: true, force: true });
  }
}

/** Ends what an agent before had begun. */
export async function finishLeaving(config: Config, log: Log): Promise<void> {
  if (!(await exists(pathsOf(config).leaving))) return;
  const identity = await readIdentity(config, log);
  await leaveCluster(identity === undefined ? config : withOwnName(config, identity.name, log), log);
}

/** Ends a manager's etcd, which outlives its agent; its data stays. */
async function stopEtcd(directory: string, log: Log): Promise<void> {
  if (!(await exists(directory))) return;
  const { process } = etcdPaths(directory);
  await new SupervisedChild({ name: "etcd", directory: process, clock: systemClock, log }).stop();
}

/** Removes the containers of tasks. While Docker does not answer they stay, and the log says so. */
async function removeContainers(config: Config, sandboxes: Sandboxes, log: Log): Promise<void> {
  const { node, docker } = config;
  const engine = new DockerEngine(docker.socket);
  const rowId = (await readSnapshot(pathsOf(config).snapshot, log))?.nodeId;
  const id = (await readDirectoryId(pathsOf(config).id)) ?? rowId;
  if (id === undefined) return; // the node never had tasks
  if (!(await engine.answers())) {
    if (engine.isThere) log.warn("Docker does not answer: containers of tasks stay", { path: docker.socket });
    return;
  }
  const clock = systemClock;
  const watch = new DockerWatch({ engine, clock, log });
  const environment = process.env;
  const runtime = new DockerRuntime({
    node: () => ({ id, name: node.name, rowId }),
    engine,
    watch,
    sandboxes,
    clock,
    log,
    environment,
    processes: new ProcessWatch({ clock, log }),
  });
  await runtime.removeAll();
  runtime.close();
}
