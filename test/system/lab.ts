// The lab: nodes and an outside client as network namespaces on one underlay, 192.0.2.0/24, agents started in them, and
// a cluster made of those as a person makes one: the first begins it, the others join.
// A lab's namespaces all begin with its prefix; those of its tasks with `ovl-` and the node's name.
import { type ChildProcess, spawn } from "node:child_process";
import { closeSync, existsSync, mkdirSync, openSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { ApiClient } from "../../src/api/client.ts";
import type { Init, JoinTokenView } from "../../src/api/membership-schema.ts";
import { systemEnv } from "../../src/lib/command.ts";
import { type Finished, type RunOptions, run, tryRun, waitFor } from "./command.ts";
import { claimPrefix } from "./lab-claim.ts";
import { configured, writeCommand, writeConfig } from "./lab-files.ts";
import { type LabNames, removeLab, removeMachine, unmountBelow } from "./lab-removal.ts";
import { createUnderlay } from "./lab-underlay.ts";

/** The compiled tree that this file is part of. */
const OWN_BUILD = fileURLToPath(new URL("../../", import.meta.url));
export const CLIENT_ADDRESS = "192.0.2.100";
/** Where the first node answers nodes that join, and sessions. */
const LEADER = "192.0.2.11:2377";
/** Behind the client, and every node's way to it is its default route: the world outside. */
export const OUTSIDE_ADDRESS = "198.51.100.10";

export interface LabOptions extends Partial<LabNames> {
  prefix: string;
  nodes: number;
  /** A configuration file that exists; by default one is written for each node. */
  configFile?: (index: number) => string;
  /** Laid over the configuration that is written, section by section; as a function, for each node. */
  settings?: Record<string, unknown> | ((index: number) => Record<string, unknown>);
  /** What the first node begins the cluster with. */
  cluster?: Init;
  /** How many nodes join as managers, the first among them; left out: 1. */
  managers?: number;
  /** Whether the agents find the machine's Docker; left out: they do not, for another file may use it at the same time. */
  engine?: boolean;
  /** How many of the last nodes join no cluster: their agents wait. */
  waiting?: number;
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
  /** What its agent is asked by, without starting a program. */
  readonly api: ApiClient;
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
    this.api = new ApiClient(this.env.OVERLAYD_SOCKET!);
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

  /** It answers also while it waits for a cluster. */
  agentAnswers(): Promise<boolean> {
    return this.api.status().then(
      () => true,
      () => false,
    );
  }

  /** Begins a cluster. Resolves when the node leads it. */
  async initCluster(body: Init = {}): Promise<void> {
    await this.api.init(body);
    await this.#untilMember();
  }

  /** Joins the cluster of `manager`, in the role that the token has. Resolves when the node has a session. */
  async joinCluster(manager: string, token: string): Promise<void> {
    await this.api.join({ manager, token });
    await this.#untilMember();
  }

  async #untilMember(): Promise<void> {
    const isMember = async (): Promise<boolean> => {
      if (!this.agentRuns()) return true;
      const { phase, connected } = await this.api.status();
      return phase === "running" && connected;
    };
    const what = `${this.name} to be a member of its cluster`;
    await waitFor(isMember, { what, everyMs: 10 }).catch((cause: Error) => {
      throw new Error(`${cause.message}; its log ends\n${this.logTail()}`, { cause });
    });
    if (!this.agentRuns()) throw new Error(`${this.name}'s agent has exited; its log ends\n${this.logTail()}`);
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
  /** Starts all agents, and makes a cluster of their nodes. */
  startAgents(): Promise<void>;
  /** With this a node joins the cluster of the first one. */
  token(role: JoinTokenView["role"]): Promise<string>;
  /** A namespace of its own on the underlay, beside the nodes; `host` is the last byte of its address. */
  addHost(name: string, host: number): Promise<LabHost>;
  /** The machine is gone, and another one with its name, address and configuration is there, on which nothing runs yet. */
  replaceMachine(node: LabNode): Promise<void>;
  teardown(): Promise<void>;
}

/**
 * Builds the namespaces, after removing what an earlier run left of them. Starts no agent. Throws when another process
 * has a lab with this prefix.
 */
export async function createLab(options: LabOptions): Promise<Lab> {
  const { prefix, nodes: count, configFile, settings = {}, build = OWN_BUILD } = options;
  const { cluster = {}, managers = 1, waiting = 0, engine = false } = options;
  // A build of an earlier commit finds its cluster in its configuration, and may have no bundles.
  const isConfigured = !existsSync(join(build, "src/trust"));
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
  const isBundled = existsSync(join(build, "bin"));
  writeCommand(join(bin, "overlayd"), join(build, isBundled ? "bin/overlayd.js" : "src/agent/main.js"));
  writeCommand(join(bin, "overlayctl"), join(build, isBundled ? "bin/overlayctl.js" : "src/cli/main.js"));

  const connect = await createUnderlay(prefix);
  const addHost = async (name: string, host: number): Promise<LabHost> => {
    const { netns, address } = await connect(name, host);
    return new LabHost(netns, address);
  };

  const client = await addHost("client", 100);
  await run(["ip", "-n", client.netns, "address", "add", `${OUTSIDE_ADDRESS}/32`, "dev", "lo"]);

  const addMachine = async (index: number): Promise<LabHost> => {
    const host = await addHost(`node${index + 1}`, 11 + index);
    await run(["ip", "-n", host.netns, "route", "add", "default", "via", CLIENT_ADDRESS]);
    return host;
  };

  const nodes: LabNode[] = [];
  for (const [index, name] of names.nodeNames.entries()) {
    const { netns, address } = await addMachine(index);
    const directory = join(names.directory, `node${index + 1}`);
    mkdirSync(directory, { recursive: true });
    const written = join(directory, "overlayd.yaml");
    const configPath = configFile === undefined ? written : configured(configFile(index), written);
    if (configFile === undefined)
      writeConfig(configPath, {
        ...(isConfigured ? { cluster: index === 0 ? { listen: LEADER } : { managers: [LEADER] } } : {}),
        name,
        address,
        directory,
        settings: {
          ...(engine ? {} : { docker: { socket: join(directory, "no-docker.sock") } }),
          ...(typeof settings === "function" ? settings(index) : settings),
        },
      });
    nodes.push(new LabNode({ name, netns, address, directory, configPath, bin }));
  }
  const token = async (role: JoinTokenView["role"]): Promise<string> => (await nodes[0]!.api.joinToken(role)).token;
  return {
    nodes,
    client,
    directory: names.directory,
    addHost,
    token,
    async startAgents() {
      await Promise.all(nodes.map((node) => node.startAgent()));
      const members = nodes.slice(0, nodes.length - waiting);
      if (members.length === 0) return;
      if (!isConfigured) await makeCluster(members, { cluster, managers, token });
      await waitFor(async () => (await readyNodes(members[0]!)) === members.length, {
        what: `${members.length} nodes to be ready`,
        everyMs: 10,
      });
    },
    async replaceMachine(node) {
      const index = nodes.indexOf(node);
      // The kernel takes its time with the links of a namespace that is deleted.
      await run(["ip", "-n", `${prefix}-switch`, "link", "delete", `p${11 + index}`]);
      await removeMachine(node);
      const data = join(node.directory, "data");
      await unmountBelow(data);
      for (const name of existsSync(data) ? readdirSync(data) : []) rmSync(join(data, name), { recursive: true });
      await addMachine(index);
    },
    async teardown() {
      await removeLab(names);
      claim.close();
    },
  };
}

/** The first node begins the cluster; managers join it one after the other, then workers at once. */
async function makeCluster(
  [first, ...others]: readonly LabNode[],
  { cluster, managers, token }: Required<Pick<LabOptions, "cluster" | "managers">> & Pick<Lab, "token">,
): Promise<void> {
  await first!.initCluster(cluster);
  const workers = others.slice(managers - 1);
  for (const node of others.slice(0, managers - 1)) await node.joinCluster(LEADER, await token("manager"));
  if (workers.length === 0) return;
  const workersToken = await token("worker");
  await Promise.all(workers.map((node) => node.joinCluster(LEADER, workersToken)));
}

async function readyNodes(node: LabNode): Promise<number> {
  const rows = await node.api.nodes();
  return rows.filter(({ state }) => state === "ready").length;
}
