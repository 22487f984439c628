// The lab: nodes and an outside client as network namespaces on one underlay, 192.0.2.0/24, agents started in them.
// A lab's namespaces all begin with its prefix; those of its tasks with `ovl-` and the node's name.
import { type ChildProcess, spawn } from "node:child_process";
import { closeSync, existsSync, mkdirSync, openSync, readFileSync, writeFileSync } from "node:fs";
import { createServer, type Server } from "node:net";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { stringify } from "yaml";
import { systemEnv } from "../../src/lib/command.ts";
import { type Finished, type RunOptions, run, TRY_MS, tryRun, waitFor } from "./command.ts";
import { type LabNames, removeLab } from "./lab-removal.ts";

/** The compiled tree that this file is part of. */
const OWN_BUILD = fileURLToPath(new URL("../../", import.meta.url));
export const CLIENT_ADDRESS = "192.0.2.100";
/** Behind the client, and every node's way to it is its default route: the world outside. */
export const OUTSIDE_ADDRESS = "198.51.100.10";

export interface LabOptions extends Partial<LabNames> {
  prefix: string;
  nodes: number;
  /** A configuration file that exists; by default one is written for each node. */
  configFile?: (index: number) => string;
  /** Laid over the configuration that is written, section by section; as a function, for each node. */
  settings?: Record<string, unknown> | ((index: number) => Record<string, unknown>);
  /** The compiled tree that `overlayd` and `overlayctl` are of; left out: the one that this file is part of. */
  build?: string;
}

/** A namespace on the underlay. */
export class LabHost {
  readonly netns: string;
  readonly address: string;
  readonly env: Record<string, string>;

  constructor(netns: string, address: string, env: Record<string, string> = {}) {
    this.netns = netns;
    this.address = address;
    this.env = env;
  }

  /** argv that runs `argv` in here. `ip netns exec` would hide the namespaces that it makes from everybody else. */
  inside(argv: readonly string[]): string[] {
    return ["nsenter", `--net=/run/netns/${this.netns}`, ...argv];
  }

  exec(argv: readonly string[], options: RunOptions = {}): Promise<string> {
    return run(this.inside(argv), { ...options, env: { ...this.env, ...options.env } });
  }

  tryExec(argv: readonly string[], options: RunOptions = {}): Promise<Finished> {
    return tryRun(this.inside(argv), { ...options, env: { ...this.env, ...options.env } });
  }

  /** A line as a person types it, `overlayctl` and `overlayd` being this host's own. */
  shell(line: string, options: RunOptions = {}): Promise<Finished> {
    return this.tryExec(["bash", "-c", `set -o pipefail; ${line}`], options);
  }
}

/** A namespace that stands for a machine, and its agent. */
export class LabNode extends LabHost {
  readonly name: string;
  readonly configPath: string;
  readonly logPath: string;
  /** Where it keeps its data, socket and log. */
  readonly directory: string;
  #agent: ChildProcess | undefined;

  constructor(options: {
    name: string;
    netns: string;
    address: string;
    directory: string;
    configPath: string;
    bin: string;
  }) {
    super(options.netns, options.address, {
      PATH: `${options.bin}:${systemEnv().PATH}`,
      OVERLAYD_SOCKET: join(options.directory, "overlayd.sock"),
    });
    this.name = options.name;
    this.configPath = options.configPath;
    this.logPath = join(options.directory, "agent.log");
    this.directory = options.directory;
  }

  /** Starts the agent, by the command `under` if there is one, and waits until it answers. Throws with its log's end when it does not. */
  async startAgent(under: readonly string[] = []): Promise<void> {
    this.launchAgent(under);
    const what = `${this.name}'s agent to answer`;
    await waitFor(async () => !this.agentRuns() || (await this.agentAnswers()), { what }).catch((cause: Error) => {
      throw new Error(`${cause.message}; its log ends\n${this.logTail()}`, { cause });
    });
    if (!this.agentRuns()) throw new Error(`${this.name}'s agent has exited; its log ends\n${this.logTail()}`);
  }

  /** Starts the agent, in a session of its own: it may outlive this process. */
  launchAgent(under: readonly string[] = []): void {
    const [command, ...argv] = this.inside([...under, "overlayd", "--config", this.configPath]);
    const log = openSync(this.logPath, "a");
    const agent = spawn(command!, argv, {
      detached: true,
      stdio: ["ignore", log, log],
      env: { ...systemEnv(), ...this.env },
    });
    closeSync(log);
    agent.unref();
    this.#agent = agent;
  }

  async agentAnswers(): Promise<boolean> {
    const { status } = await this.tryExec(["overlayctl", "node", "ls"], { timeoutMs: TRY_MS });
    return status === 0;
  }

  /** undefined: it was not started, or has ended. */
  get agentPid(): number | undefined {
    return this.agentRuns() ? this.#agent?.pid : undefined;
  }

  agentRuns(): boolean {
    return this.#agent?.exitCode === null && this.#agent.signalCode === null;
  }

  logTail(lines = 15): string {
    return readFileSync(this.logPath, "utf8").trimEnd().split("\n").slice(-lines).join("\n");
  }

  /** Throws when it does not end well. */
  async stopAgent(): Promise<void> {
    await this.#signalAgent("SIGTERM");
    const status = this.#agent?.exitCode;
    if (status !== 0) throw new Error(`${this.name}'s agent ended with ${status}; its log ends\n${this.logTail()}`);
  }

  killAgent(): Promise<void> {
    return this.#signalAgent("SIGKILL");
  }

  async #signalAgent(signal: NodeJS.Signals): Promise<void> {
    this.#agent?.kill(signal);
    await waitFor(() => !this.agentRuns(), { what: `${this.name}'s agent to end after ${signal}` });
  }

  /** `overlayctl` with this node's agent; returns its output. */
  ctl(...argv: string[]): Promise<string> {
    return this.exec(["overlayctl", ...argv]);
  }

  /** A listing, parsed. */
  async ctlJson<T>(...argv: string[]): Promise<T> {
    return JSON.parse(await this.ctl(...argv, "--json")) as T;
  }

  /** Runs `argv` in a container of its own on `network`. */
  container(network: string, argv: readonly string[], options: RunOptions = {}): Promise<Finished> {
    return this.tryExec(["overlayctl", "run", "--network", network, "--", ...argv], options);
  }
}

export interface Lab {
  readonly nodes: readonly LabNode[];
  readonly client: LabHost;
  /** Where nodes keep their data, socket and log. */
  readonly directory: string;
  startAgents(): Promise<void>;
  /** A namespace of its own on the underlay, beside the nodes; `host` is the last byte of its address. */
  addHost(name: string, host: number): Promise<LabHost>;
  teardown(): Promise<void>;
}

/**
 * Builds the namespaces, after removing what an earlier run left of them. Starts no agent. Throws when another process
 * has a lab with this prefix.
 */
export async function createLab(options: LabOptions): Promise<Lab> {
  const { prefix, nodes: count, configFile, settings = {}, build = OWN_BUILD } = options;
  const claim = await claimPrefix(prefix);
  const names: LabNames = {
    prefix,
    nodeNames: options.nodeNames ?? Array.from({ length: count }, (_, i) => `${prefix}n${i + 1}`),
    directory: options.directory ?? `/tmp/overlayd-lab-${prefix}`,
  };
  await removeLab(names);
  const bin = join(names.directory, "bin");
  mkdirSync(names.directory); // refused when another user has made it meanwhile
  mkdirSync(bin);
  // A build of an earlier commit has no bundles.
  const isBundled = existsSync(join(build, "bin"));
  writeCommand(join(bin, "overlayd"), join(build, isBundled ? "bin/overlayd.js" : "src/agent/main.js"));
  writeCommand(join(bin, "overlayctl"), join(build, isBundled ? "bin/overlayctl.js" : "src/cli/main.js"));

  const netnsSwitch = `${prefix}-switch`;
  await run(["ip", "netns", "add", netnsSwitch]);
  await run(["ip", "-n", netnsSwitch, "link", "add", "br0", "type", "bridge"]);
  await run(["ip", "-n", netnsSwitch, "link", "set", "br0", "up"]);
  await passByNetfilter(netnsSwitch);

  const addHost = async (name: string, host: number): Promise<LabHost> => {
    const netns = `${prefix}-${name}`;
    await run(["ip", "netns", "add", netns]);
    const batch = `
      link add p${host} type veth peer name eth0 netns ${netns}
      link set p${host} master br0
      link set p${host} up`;
    await run(["ip", "-n", netnsSwitch, "-batch", "-"], { input: batch });
    const inside = `
      link set lo up
      link set eth0 up
      address add 192.0.2.${host}/24 dev eth0`;
    await run(["ip", "-n", netns, "-batch", "-"], { input: inside });
    return new LabHost(netns, `192.0.2.${host}`);
  };

  const client = await addHost("client", 100);
  await run(["ip", "-n", client.netns, "address", "add", `${OUTSIDE_ADDRESS}/32`, "dev", "lo"]);

  const nodes: LabNode[] = [];
  for (const [index, name] of names.nodeNames.entries()) {
    const { netns, address } = await addHost(`node${index + 1}`, 11 + index);
    await run(["ip", "-n", netns, "route", "add", "default", "via", CLIENT_ADDRESS]);
    const directory = join(names.directory, `node${index + 1}`);
    mkdirSync(directory, { recursive: true });
    const configPath = configFile?.(index) ?? join(directory, "overlayd.yaml");
    if (configFile === undefined)
      writeConfig(configPath, {
        index,
        name,
        address,
        directory,
        settings: typeof settings === "function" ? settings(index) : settings,
      });
    nodes.push(new LabNode({ name, netns, address, directory, configPath, bin }));
  }
  return {
    nodes,
    client,
    directory: names.directory,
    addHost,
    async startAgents() {
      await nodes[0]?.startAgent();
      await Promise.all(nodes.slice(1).map((node) => node.startAgent()));
      await waitFor(async () => (await readyNodes(nodes[0]!)) === nodes.length, {
        what: `${nodes.length} nodes to be ready`,
      });
    },
    async teardown() {
      await removeLab(names);
      claim.close();
    },
  };
}

/** Where Docker has been started, bridges hand every frame to netfilter: those of this namespace no longer. */
export async function passByNetfilter(netns: string): Promise<void> {
  const setting = "net.bridge.bridge-nf-call-iptables=0";
  await tryRun(["nsenter", `--net=/run/netns/${netns}`, "sysctl", "-q", "-w", setting]);
}

/** Holds an abstract socket: it goes with the process that has it. */
function claimPrefix(prefix: string): Promise<Server> {
  const claim = createServer();
  return new Promise((resolve, reject) => {
    claim.once("error", (cause) => reject(new Error(`another process has the lab '${prefix}' in use`, { cause })));
    claim.listen(`\0overlayd-lab-${prefix}`, () => resolve(claim.unref()));
  });
}

async function readyNodes(node: LabNode): Promise<number> {
  const rows = await node.ctlJson<{ state: string }[]>("node", "ls");
  return rows.filter(({ state }) => state === "ready").length;
}

function writeConfig(
  path: string,
  node: { index: number; name: string; address: string; directory: string; settings: Record<string, unknown> },
): void {
  const { index, name, address, directory, settings } = node;
  const leader = "192.0.2.11:2377";
  const config: Record<string, unknown> = {
    node: { name, address },
    cluster: index === 0 ? { listen: leader } : { managers: [leader] },
    dataDir: join(directory, "data"),
    socket: join(directory, "overlayd.sock"),
  };
  for (const [section, value] of Object.entries(settings)) {
    const own = config[section];
    config[section] = typeof own === "object" ? { ...own, ...(value as object) } : value;
  }
  writeFileSync(path, stringify(config));
}

function writeCommand(path: string, script: string): void {
  writeFileSync(path, `#!/bin/sh\nexec "${process.execPath}" "${script}" "$@"\n`, { mode: 0o755 });
}
