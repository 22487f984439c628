// Docker Swarm's manager, which the control plane is held against: an engine of its own in a network namespace of its
// own, with its own socket, files and loopback. Services have no replicas, so no IPVS and no image is needed.
import { spawn } from "node:child_process";
import { closeSync, existsSync, mkdirSync, openSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import Docker from "dockerode";
import { run, tryRun, waitFor } from "../test/system/command.ts";
import { residentMegabytesOf } from "./cpu.ts";

const NETNS = "bench-swarm";
const DIRECTORY = join(tmpdir(), "overlayd-bench-swarm");
const SOCKET = join(DIRECTORY, "docker.sock");
const PID_FILE = join(DIRECTORY, "dockerd.pid");
const LOG = join(DIRECTORY, "dockerd.log");
const API = "v1.41";
const CALL_MS = 30_000;
const LOOPBACK = "127.0.0.1";
const NETWORK = "bench";
const SUBNET = "10.200.0.0/16";

export class Swarm {
  readonly #engine: Docker;

  /** Starts the engine, after removing what an earlier run left, and makes it a manager with one network. */
  static async start(): Promise<Swarm> {
    await removeEngine();
    try {
      const engine = await startEngine();
      await engine.swarmInit({ ListenAddr: LOOPBACK, AdvertiseAddr: LOOPBACK });
      await engine.createNetwork({ Name: NETWORK, Driver: "overlay", IPAM: { Config: [{ Subnet: SUBNET }] } });
      return new Swarm(engine);
    } catch (cause) {
      const log = existsSync(LOG) ? readFileSync(LOG, "utf8").trim().split("\n").slice(-5).join("\n") : "";
      await removeEngine();
      throw new Error(`Docker Swarm could not be started: ${(cause as Error).message}\n${log}`, { cause });
    }
  }

  private constructor(engine: Docker) {
    this.#engine = engine;
  }

  /** A service with a virtual IP and no tasks. */
  async createService(name: string): Promise<void> {
    await this.#engine.createService({
      Name: name,
      TaskTemplate: { ContainerSpec: { Image: "none" }, Networks: [{ Target: NETWORK }] },
      Mode: { Replicated: { Replicas: 0 } },
      EndpointSpec: { Mode: "vip" },
    });
  }

  residentMegabytes(): number {
    return residentMegabytesOf(Number(readFileSync(PID_FILE, "utf8")));
  }

  /** Leaves the swarm, ends the engine and removes all that it had. */
  async remove(): Promise<void> {
    await this.#engine.swarmLeave({ force: true }).catch(() => {}); // its files are removed anyway
    await removeEngine();
  }
}

async function startEngine(): Promise<Docker> {
  mkdirSync(DIRECTORY, { mode: 0o700 });
  const config = join(DIRECTORY, "daemon.json"); // not the machine's own
  writeFileSync(config, "{}");
  await run(["ip", "netns", "add", NETNS]);
  await run(["ip", "-n", NETNS, "link", "set", "lo", "up"]);
  const places = [
    "--data-root",
    join(DIRECTORY, "data"),
    "--exec-root",
    join(DIRECTORY, "exec"),
    "--pidfile",
    PID_FILE,
  ];
  const network = ["--bridge=none", "--iptables=false", "--ip6tables=false"];
  const argv = [`--net=/run/netns/${NETNS}`, "dockerd", "--config-file", config, "--host", `unix://${SOCKET}`];
  const log = openSync(LOG, "a");
  const child = spawn("nsenter", [...argv, ...places, ...network], { stdio: ["ignore", log, log] });
  closeSync(log);
  let failure: string | undefined;
  child.once("error", (error) => {
    failure = error.message;
  });
  child.once("exit", (status) => {
    failure = `dockerd exited with ${status}`;
  });
  const engine = new Docker({ socketPath: SOCKET, version: API, timeout: CALL_MS });
  const answers = async (): Promise<boolean> => {
    if (failure === undefined) await engine.ping();
    return true;
  };
  await waitFor(answers, { what: "dockerd to answer", deadlineMs: CALL_MS });
  if (failure !== undefined) throw new Error(failure);
  return engine;
}

/** Ends every process in the namespace, and removes namespace, mounts and files: also those of a run that was killed. */
async function removeEngine(): Promise<void> {
  if (existsSync(join("/run/netns", NETNS))) {
    await waitFor(
      async () => {
        const pids = (await run(["ip", "netns", "pids", NETNS])).split("\n").filter(Boolean);
        for (const pid of pids) await tryRun(["kill", "-KILL", pid]);
        return pids.length === 0;
      },
      { what: `all in ${NETNS} to end` },
    );
    await run(["ip", "netns", "delete", NETNS]);
  }
  const mounts = readFileSync("/proc/self/mounts", "utf8")
    .split("\n")
    .map((line) => line.split(" ")[1] ?? "");
  for (const mount of mounts.reverse()) if (mount.startsWith(`${DIRECTORY}/`)) await run(["umount", "-l", mount]);
  rmSync(DIRECTORY, { recursive: true, force: true });
  // Its cgroups go by themselves: it ran no container.
}
