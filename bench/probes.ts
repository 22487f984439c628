// The measurements over a path, each one run of a program: iperf3 for TCP, and the small C programs in probes/ for requests,
// datagrams and connections. Servers are started when they are first needed, and end with the bench.
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { run } from "../test/system/command.ts";
import type { LabHost } from "../test/system/lab.ts";
import { Background } from "./background.ts";
import { cpuSeconds, withCpu } from "./cpu.ts";
import type { Sample } from "./experiment.ts";
import type { Path } from "./path.ts";
import { highestRate } from "./statistics.ts";

const SOURCES = "bench/probes";
const PROGRAMS = ["request-response", "datagrams", "connections", "schedule"] as const;

export const TCP_PORT = 5202;
export const CONNECTIONS_PORT = 7002;
const REQUESTS_PORT = 7001;
const DATAGRAMS_PORT = 7003;

const DATAGRAM_BYTES = 64;
/** A receiver to which nothing came for this time has received all. */
const IDLE_MS = 400;
const ACCEPTED_LOSS = 0.001;
const RATE_STEPS = 6;
const CONNECTING_PROCESSES = 4;
const SPREAD_RATE = 30_000;
const WARM_UP_SECONDS = 2;
const WARM_UP_REQUESTS = 3000;

export interface TcpOptions {
  streams: number;
  seconds: number;
  /** Whether data goes from `to` to `from`, over connections that `from` makes. */
  back: boolean;
}

export class Probes {
  readonly #directory: string;
  readonly #servers = new Map<string, Background>(); // BOUNDED: by the experiments' hosts; keyed by namespace and command

  /** Compiles the C programs into `directory`. */
  static async compile(directory: string): Promise<Probes> {
    mkdirSync(directory, { recursive: true });
    for (const name of PROGRAMS) {
      await run(["gcc", "-O2", "-Wall", "-o", join(directory, name), join(SOURCES, `${name}.c`)]);
    }
    return new Probes(directory);
  }

  private constructor(directory: string) {
    this.#directory = directory;
  }

  /** Lets the agents compile what they run: a benchmark is of a node that has been up for a while. */
  async warmUp(direct: Path, vip: Path): Promise<void> {
    await this.tcp(direct, { streams: 1, seconds: WARM_UP_SECONDS, back: false });
    await this.requests(direct, WARM_UP_REQUESTS);
    await this.delivered(direct, WARM_UP_SECONDS);
    await this.connections(vip, WARM_UP_SECONDS);
  }

  /** Gbit/s that arrived, and CPU seconds a Gbyte: the agents' own, and all of the machine's. */
  async tcp({ from, to, address, agents }: Path, { streams, seconds, back }: TcpOptions): Promise<Sample> {
    await this.#serve(to, ["iperf3", "-s", "-p", `${TCP_PORT}`, "--forceflush"], /listening/);
    const argv = ["iperf3", "-c", address, "-p", `${TCP_PORT}`, "-t", `${seconds}`, "-P", `${streams}`, "-J"];
    const pids = agents();
    const before = cpuSeconds(pids);
    const output = await from.exec(back ? [...argv, "-R"] : argv, { timeoutMs: 1000 * seconds + 20_000 });
    const after = cpuSeconds(pids);
    const { end } = JSON.parse(output) as { end: { sum_received: { bytes: number; bits_per_second: number } } };
    const gigabytes = end.sum_received.bytes / 1e9;
    return {
      throughput: end.sum_received.bits_per_second / 1e9,
      "agents' CPU": (after.agents - before.agents) / gigabytes,
      "machine's CPU": (after.system - before.system) / gigabytes,
    };
  }

  /** Microseconds that one byte takes there and back. */
  async requests({ from, to, address, agents }: Path, count: number): Promise<Sample> {
    const program = this.program("request-response");
    await this.#serve(to, [program, "serve", `${REQUESTS_PORT}`], /ready/);
    const ask = async () =>
      JSON.parse(await from.exec([program, "ask", address, `${REQUESTS_PORT}`, `${count}`])) as Sample;
    return withCpu(agents(), ask, () => count);
  }

  /** New connections a second. */
  async connections({ from, to, address, agents }: Path, seconds: number): Promise<Sample> {
    const program = this.program("connections");
    await this.#serve(to, [program, "serve", `${CONNECTIONS_PORT}`], /ready/);
    const port = `${CONNECTIONS_PORT}`;
    const argv = [program, "open", address, port, `${CONNECTING_PROCESSES}`, `${seconds}`];
    let opened = 0;
    const open = async () => {
      const result = JSON.parse(await from.exec(argv)) as { opened: number; failed: number; seconds: number };
      opened = result.opened;
      return { connections: result.opened / result.seconds, failed: result.failed };
    };
    return withCpu(agents(), open, () => opened);
  }

  /** Thousands of 64-byte datagrams a second that arrive when as many are sent as go. */
  async delivered(path: Path, seconds: number): Promise<Sample> {
    let arrived = 0;
    const flood = async () => {
      const { received, seconds: took } = await this.#flood(path, seconds, 0);
      arrived = received;
      return { delivered: received / took / 1e3 };
    };
    return withCpu(path.agents(), flood, () => arrived);
  }

  /** The highest rate, in thousands a second, at which at most 0.1 % are lost. */
  async withoutLoss(path: Path, seconds: number): Promise<Sample> {
    const { sent, seconds: took } = await this.#flood(path, seconds, 0);
    const rate = await highestRate(
      async (tried) => {
        const outcome = await this.#flood(path, seconds, tried);
        return outcome.received >= outcome.sent * (1 - ACCEPTED_LOSS);
      },
      { ceiling: sent / took, steps: RATE_STEPS },
    );
    return { lossless: rate / 1e3 };
  }

  /** Leaves `sources` times `ports` flows in the tables along the path, by one datagram each. */
  async spreadFlows({ from, address }: Path, sources: number, ports: number): Promise<void> {
    const argv = [this.program("datagrams"), "spread", address, `${sources}`, `${ports}`, `${SPREAD_RATE}`];
    await from.exec(argv);
  }

  /** The path of a compiled program. */
  program(name: (typeof PROGRAMS)[number]): string {
    return join(this.#directory, name);
  }

  async close(): Promise<void> {
    await Promise.all([...this.#servers.values()].map((server) => server.stop()));
    this.#servers.clear();
  }

  async #flood(
    { from, to, address }: Path,
    seconds: number,
    rate: number,
  ): Promise<{ sent: number; received: number; seconds: number }> {
    const program = this.program("datagrams");
    const port = `${DATAGRAMS_PORT}`;
    const receiver = await Background.start(to, [program, "receive", port, `${IDLE_MS}`], /ready/);
    const argv = [program, "send", address, port, `${DATAGRAM_BYTES}`, `${seconds}`, `${Math.round(rate)}`];
    const sender = JSON.parse(await from.exec(argv)) as { sent: number; seconds: number };
    const heard = (await receiver.output()).replace("ready", "");
    const { received } = JSON.parse(heard) as { received: number };
    return { ...sender, received };
  }

  async #serve(host: LabHost, argv: readonly string[], ready: RegExp): Promise<void> {
    const key = `${host.netns} ${argv.join(" ")}`;
    if (!this.#servers.has(key)) this.#servers.set(key, await Background.start(host, argv, ready));
  }
}
