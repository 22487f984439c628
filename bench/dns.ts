// dnsperf in a container of the first node asks for names of services: overlayd on the network's gateway, and dnsmasq with
// the same records, on the gateway too and where a container reaches it through a bridge.
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { ApiClient } from "../src/api/client.ts";
import type { LabNode } from "../test/system/lab.ts";
import { networkOf } from "../test/system/listings.ts";
import { Background } from "./background.ts";
import { cpuMetrics, withCpu } from "./cpu.ts";
import { type DnsLoad, dnsLatencies, dnsperf, QUERIES_FILE, startDnsperf } from "./dnsperf.ts";
import type { Contender, Experiment, Sample } from "./experiment.ts";
import { BRIDGE_ADDRESS, type KernelVxlan } from "./kernel-vxlan.ts";
import { LIMITS } from "./limits.ts";
import type { BenchOptions } from "./options.ts";
import { NETWORK, type Overlay } from "./overlay.ts";
import type { Probes } from "./probes.ts";

const SERVICES = 100;
const DNSMASQ_PORT = 5300;
const WORKLOAD = { runtime: "process" as const, command: ["sleep", "infinity"] };
const APPLIED_MS = 60_000;
/** Seconds that dnsperf goes on after the measurement beside it. */
const MARGIN_SECONDS = 2;

export interface DnsBed {
  overlay: Overlay;
  kernel: KernelVxlan;
  probes: Probes;
  options: BenchOptions;
}

export class DnsServers {
  readonly overlayd: DnsLoad;
  readonly dnsmasq: DnsLoad;
  readonly dnsmasqOverBridge: DnsLoad;
  readonly #dnsmasq: Background;
  #half: number | undefined;
  #sharedWith: DnsServers | undefined;

  /** Creates the services, each with a virtual IP, and starts dnsmasq with the same names. */
  static async start({ overlay, kernel, options }: Omit<DnsBed, "probes">): Promise<DnsServers> {
    const node1 = overlay.lab.nodes[0]!;
    const directory = overlay.lab.directory;
    const addresses = await createServices(node1);
    const names = [...addresses.keys()];
    writeFileSync(join(directory, QUERIES_FILE), names.map((name) => `${name} A\n`).join(""));
    const hosts = join(directory, "dns-hosts");
    writeFileSync(hosts, [...addresses].map(([name, address]) => `${address} ${name}\n`).join(""));
    const { gateway } = await networkOf(node1, NETWORK);
    const listen = [gateway, BRIDGE_ADDRESS].map((address) => `--listen-address=${address}`);
    const argv = [
      "dnsmasq",
      "--keep-in-foreground",
      "--log-facility=-",
      "--user=root",
      "--pid-file",
      "--conf-file=/dev/null",
    ];
    const records = ["--no-resolv", "--no-hosts", `--addn-hosts=${hosts}`];
    const place = [`--port=${DNSMASQ_PORT}`, "--bind-interfaces", ...listen];
    const dnsmasq = await Background.start(node1, [...argv, ...records, ...place], /read .*dns-hosts/);
    const { seconds } = options;
    const from = overlay.direct.from;
    const own = { from, address: gateway, port: 53, directory, seconds, agents: () => overlay.agents() };
    const other = { ...own, port: DNSMASQ_PORT, agents: () => [dnsmasq.pid] };
    const servers = new DnsServers(dnsmasq, {
      overlayd: own,
      dnsmasq: other,
      dnsmasqOverBridge: { ...other, from: kernel.direct.from, address: BRIDGE_ADDRESS },
    });
    // The first queries cost more: code is compiled, caches are filled.
    for (const load of [servers.overlayd, servers.dnsmasq, servers.dnsmasqOverBridge]) await dnsperf(load);
    return servers;
  }

  private constructor(dnsmasq: Background, loads: { overlayd: DnsLoad; dnsmasq: DnsLoad; dnsmasqOverBridge: DnsLoad }) {
    this.#dnsmasq = dnsmasq;
    this.overlayd = loads.overlayd;
    this.dnsmasq = loads.dnsmasq;
    this.dnsmasqOverBridge = loads.dnsmasqOverBridge;
  }

  /** Half of what both overlayd and dnsmasq answer a second, measured once. */
  async half(): Promise<number> {
    if (this.#sharedWith !== undefined) return this.#sharedWith.half();
    if (this.#half === undefined) {
      const { perSecond } = await dnsperf(this.overlayd);
      this.#half = Math.min(perSecond, (await dnsperf(this.dnsmasq)).perSecond) / 2;
    }
    return this.#half;
  }

  /** Has `half` give the half of `other`, so that two builds are asked at one rate. */
  shareRate(other: DnsServers): void {
    this.#sharedWith = other;
  }

  close(): Promise<void> {
    return this.#dnsmasq.stop();
  }
}

export function dnsExperiments({ overlay, probes, options }: DnsBed, servers: DnsServers): Experiment[] {
  const contend = (measure: (load: DnsLoad) => Promise<Sample>): Contender[] => [
    { name: "overlayd", measure: () => measure(servers.overlayd) },
    { name: "dnsmasq, same path", measure: () => measure(servers.dnsmasq) },
    { name: "dnsmasq over a bridge", measure: () => measure(servers.dnsmasqOverBridge) },
  ];
  const tcp = async () => {
    const { throughput } = await probes.tcp(overlay.vip, { streams: 1, seconds: options.seconds, back: false });
    return { throughput: throughput! };
  };
  const tcpBeside = async (load: DnsLoad) => {
    const seconds = options.seconds + MARGIN_SECONDS;
    const queries = await startDnsperf({ ...load, seconds }, await servers.half());
    const sample = await tcp();
    await queries.output();
    return sample;
  };
  return [
    {
      group: "dns",
      title: "DNS, service names, as many as go",
      metrics: [
        { id: "answered", unit: "1000/s", digits: 1, limit: LIMITS.dnsAnswered },
        { id: "lost", unit: "queries", digits: 0, alone: true },
        ...cpuMetrics("query"),
      ],
      contenders: contend((load) => {
        const ask = async () => {
          const { perSecond, lost } = await dnsperf(load);
          return { answered: perSecond / 1000, lost };
        };
        return withCpu(load.agents(), ask, ({ answered }) => 1000 * answered! * load.seconds);
      }),
    },
    {
      group: "dns",
      title: "DNS at half load",
      metrics: [
        { id: "p50", unit: "ms", digits: 3 },
        { id: "p99", unit: "ms", digits: 3, limit: LIMITS.dnsP99 },
        { id: "lost", unit: "queries", digits: 0, alone: true },
      ],
      contenders: contend(async (load) => dnsLatencies(load, await servers.half())),
    },
    {
      group: "dns",
      title: "TCP through a VIP beside that load",
      metrics: [{ id: "throughput", unit: "Gbit/s", digits: 2, limit: LIMITS.besideDns }],
      contenders: [
        { name: "overlayd's DNS asked", measure: () => tcpBeside(servers.overlayd) },
        { name: "no DNS load", measure: tcp },
        { name: "dnsmasq asked as much", measure: () => tcpBeside(servers.dnsmasq) },
      ],
    },
  ];
}

/** Addresses by name, once every node has them in force. */
async function createServices(manager: LabNode): Promise<Map<string, string>> {
  const api = new ApiClient(manager.env.OVERLAYD_SOCKET!);
  let last = 0;
  for (let i = 0; i < SERVICES; i++) {
    const body = { name: `name-${i}`, workload: WORKLOAD, replicas: 0, networks: [NETWORK] };
    last = (await api.createService(body)).revision;
  }
  await api.waitApplied({ revision: last, timeoutMs: APPLIED_MS });
  const services = (await api.services()).filter(({ name }) => name.startsWith("name-"));
  return new Map(services.map(({ name, networks }) => [name, networks[0]!.vip!]));
}
