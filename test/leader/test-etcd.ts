// Debian's etcd for tests: one member or three, on loopback, with TLS and client certificates, in a temporary directory.
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { createWriteStream } from "node:fs";
import { readFile, rm } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { EtcdClient } from "../../src/leader/etcd-client.ts";
import { ETCD_LIMITS } from "../../src/leader/etcd-commit.ts";
import type { EtcdTls } from "../../src/leader/etcd-endpoints.ts";
import { messageOf } from "../../src/lib/errors.ts";
import { temporaryDirectory } from "../temporary.ts";
import { issueStoreCertificate } from "./store-certificates.ts";

const START_MS = 60_000;

interface Ports {
  client: number;
  peer: number;
}

interface TestEtcdOptions {
  members?: number;
  /** They come after those that every member has. */
  flags?: readonly string[];
  /** Where the members keep their data. */
  on?: string;
  /** The network namespace that the members run in, and their address there; left out: this process's own, on loopback. */
  place?: EtcdPlace;
}

interface EtcdPlace {
  netns: string;
  address: string;
}

export class TestEtcd {
  readonly directory: string;
  readonly tls: EtcdTls;
  readonly #ports: readonly Ports[];
  readonly #flags: readonly string[];
  readonly #place: EtcdPlace | undefined;
  // BOUNDED: by the members; keyed by the member's index.
  readonly #processes = new Map<number, ChildProcess>();

  private constructor(directory: string, tls: EtcdTls, ports: readonly Ports[], { flags, place }: TestEtcdOptions) {
    this.directory = directory;
    this.tls = tls;
    this.#ports = ports;
    this.#flags = flags ?? [];
    this.#place = place;
  }

  /** Resolves when the members have a leader, and in another namespace when they have begun. */
  static async start(options: TestEtcdOptions = {}): Promise<TestEtcd> {
    const { members = 1, on = tmpdir(), place } = options;
    const directory = temporaryDirectory("etcd", on);
    const tls = await issueStoreCertificate(directory, "member", place?.address);
    const free = await freePorts(2 * members); // also in a namespace in which nothing listens yet
    const ports = Array.from({ length: members }, (_, i) => ({ client: free[2 * i]!, peer: free[2 * i + 1]! }));
    const etcd = new TestEtcd(directory, tls, ports, options);
    for (const i of ports.keys()) etcd.launch(i);
    try {
      if (place === undefined) for (const i of ports.keys()) await etcd.ready(i);
    } catch (error) {
      await etcd.remove();
      throw error;
    }
    return etcd;
  }

  /** HOST:PORT of each member. */
  get endpoints(): string[] {
    return this.#ports.map(({ client }) => `${this.#address}:${client}`);
  }

  get #address(): string {
    return this.#place?.address ?? "127.0.0.1";
  }

  /** The process id of the member. */
  pid(i: number): number {
    return this.#processes.get(i)!.pid!;
  }

  client(...members: number[]): EtcdClient {
    const endpoints = members.length === 0 ? this.endpoints : members.map((i) => this.endpoints[i]!);
    return new EtcdClient({ endpoints, tls: this.tls });
  }

  /** Starts the member's process, whatever there was of it. */
  launch(i: number): void {
    const { client, peer } = this.#ports[i]!;
    const file = (name: string) => join(this.directory, name);
    const cluster = this.#ports.map((ports, other) => `m${other}=https://${this.#address}:${ports.peer}`).join(",");
    const [clientUrl = "", peerUrl = ""] = [client, peer].map((port) => `https://${this.#address}:${port}`);
    const inside = this.#place === undefined ? [] : ["nsenter", `--net=/run/netns/${this.#place.netns}`];
    const [command, ...inPlace] = [...inside, "etcd"];
    const child = spawn(
      command!,
      [
        ...inPlace,
        ...["--name", `m${i}`, "--data-dir", this.dataDirectory(i), "--initial-cluster", cluster],
        ...["--listen-client-urls", clientUrl, "--advertise-client-urls", clientUrl],
        ...["--listen-peer-urls", peerUrl, "--initial-advertise-peer-urls", peerUrl],
        ...["--cert-file", file("member.crt"), "--key-file", file("member.key")],
        ...["--trusted-ca-file", file("ca.crt"), "--client-cert-auth"],
        ...["--peer-cert-file", file("member.crt"), "--peer-key-file", file("member.key")],
        ...["--peer-trusted-ca-file", file("ca.crt"), "--peer-client-cert-auth"],
        ...["--max-txn-ops", String(ETCD_LIMITS.txnOps), "--max-request-bytes", String(ETCD_LIMITS.requestBytes)],
        ...["--heartbeat-interval", "200", "--election-timeout", "2000"],
        ...this.#flags,
      ],
      { stdio: ["ignore", "ignore", "pipe"] },
    );
    child.stderr!.pipe(createWriteStream(file(`m${i}.log`), { flags: "a" }));
    this.#processes.set(i, child);
  }

  dataDirectory(i: number): string {
    return join(this.directory, `m${i}`);
  }

  /** Resolves when the member answers and knows a leader. */
  async ready(i: number): Promise<void> {
    const client = this.client(i);
    try {
      for (const until = performance.now() + START_MS; ; await delay(100)) {
        const problem = await client.range({ key: "ready" }, { timeoutMs: 2000 }).then(() => undefined, messageOf);
        if (problem === undefined) return;
        const { exitCode } = this.#processes.get(i)!;
        if (exitCode === null && performance.now() < until) continue;
        const log = await readFile(join(this.directory, `m${i}.log`), "utf8").catch(() => "");
        throw new Error(`etcd member ${i} does not answer: ${problem}; its log ends with\n${log.slice(-1500)}`);
      }
    } finally {
      client.close();
    }
  }

  /** Resolves when the member's process is stopped. */
  async freeze(i: number): Promise<void> {
    const child = this.#processes.get(i)!;
    child.kill("SIGSTOP");
    while (!/\) [Tt] /.test(await readFile(`/proc/${child.pid}/stat`, "utf8"))) await delay(10);
  }

  thaw(i: number): void {
    this.#processes.get(i)!.kill("SIGCONT");
  }

  async kill(i: number, signal: NodeJS.Signals = "SIGKILL"): Promise<void> {
    const child = this.#processes.get(i)!;
    if (child.exitCode !== null || child.signalCode !== null) return;
    const exited = once(child, "exit");
    child.kill(signal);
    await exited;
  }

  async remove(): Promise<void> {
    for (const i of this.#processes.keys()) await this.kill(i);
    await rm(this.directory, { recursive: true, force: true });
  }
}

async function freePorts(count: number): Promise<number[]> {
  const servers = Array.from({ length: count }, () => createServer().listen(0, "127.0.0.1"));
  await Promise.all(servers.map((server) => once(server, "listening")));
  const ports = servers.map((server) => (server.address() as { port: number }).port);
  await Promise.all(servers.map((server) => once(server.close(), "close")));
  return ports;
}
