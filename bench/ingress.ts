// Requests of a client outside to the first node, which nginx on the second answers: through the routing mesh, and through
// HAProxy on the first node, which reaches its nginx over the kernel's VXLAN.
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { waitFor } from "../test/system/command.ts";
import type { LabHost } from "../test/system/lab.ts";
import { Background } from "./background.ts";
import { cpuMetrics } from "./cpu.ts";
import type { Experiment, Metric } from "./experiment.ts";
import type { KernelVxlan } from "./kernel-vxlan.ts";
import type { WayLimits } from "./limits.ts";
import type { BenchOptions } from "./options.ts";
import { type Overlay, startService } from "./overlay.ts";
import { type HttpLoad, wrk } from "./wrk.ts";

const HTTP_PORT = 8080;
const HAPROXY_PORT = 8081;
const WARM_UP_SECONDS = 2;
/** A client that connects ten thousand times in a row would else mostly search for a free port. */
const MANY_CONNECTIONS = ["net.ipv4.ip_local_port_range=1024 65535", "net.ipv4.tcp_max_tw_buckets=1000"];

export class Ingress {
  readonly mesh: HttpLoad;
  readonly haproxy: HttpLoad;
  readonly #programs: readonly Background[];

  static async start(overlay: Overlay, kernel: KernelVxlan): Promise<Ingress> {
    const { lab } = overlay;
    const [node1, node2] = lab.nodes;
    for (const host of [lab.client, node1!]) await host.exec(["sysctl", "-q", "-w", ...MANY_CONNECTIONS]);
    const command = nginx(join(lab.directory, "nginx-task"));
    await startService(node1!, { name: "web", on: node2!, command, publish: `${HTTP_PORT}:${HTTP_PORT}` });
    const behind = kernel.direct.to;
    const server = await launch(behind, nginx(join(lab.directory, "nginx-kernel")));
    const listen = `${node1!.address}:${HAPROXY_PORT}`;
    const proxy = await launch(node1!, haproxy(lab.directory, listen, `${behind.address}:${HTTP_PORT}`));
    const ingress = new Ingress(overlay, { server, proxy });
    for (const { url } of [ingress.mesh, ingress.haproxy]) {
      await waitFor(async () => (await lab.client.tryExec(["curl", "-sf", url])).status === 0, { what: url });
    }
    for (const load of [ingress.mesh, ingress.haproxy]) await wrk(load, WARM_UP_SECONDS, false);
    return ingress;
  }

  private constructor(overlay: Overlay, { server, proxy }: { server: Background; proxy: Background }) {
    const from = overlay.lab.client;
    const { address } = overlay.lab.nodes[0]!;
    this.mesh = { from, url: `http://${address}:${HTTP_PORT}/`, agents: () => overlay.agents() };
    this.haproxy = { from, url: `http://${address}:${HAPROXY_PORT}/`, agents: () => [proxy.pid] };
    this.#programs = [server, proxy];
  }

  async close(): Promise<void> {
    await Promise.all(this.#programs.map((program) => program.stop()));
  }
}

export function ingressExperiments(
  { mesh, haproxy }: Ingress,
  { seconds }: BenchOptions,
  { ingressKept, ingressEach }: WayLimits,
): Experiment[] {
  const metrics: Metric[] = [
    { id: "p50", unit: "ms", digits: 3 },
    { id: "p99", unit: "ms", digits: 3 },
    { id: "failed", unit: "requests", digits: 0, alone: true },
    ...cpuMetrics("request"),
  ];
  return [true, false].map((keepAlive) => ({
    group: "ingress" as const,
    title: `HTTP from outside, ${keepAlive ? "connections kept" : "a connection a request"}`,
    metrics: [{ id: "requests", unit: "1/s", digits: 0, limit: keepAlive ? ingressKept : ingressEach }, ...metrics],
    contenders: [
      { name: "routing mesh", measure: () => wrk(mesh, seconds, keepAlive) },
      { name: "HAProxy over kernel VXLAN", measure: () => wrk(haproxy, seconds, keepAlive) },
    ],
  }));
}

/** Starts a server that prints nothing when it is ready. */
function launch(host: LabHost, argv: readonly string[]): Promise<Background> {
  return Background.start(host, ["sh", "-c", 'echo started; exec "$@"', "sh", ...argv], /started/);
}

function nginx(directory: string): string[] {
  mkdirSync(directory, { recursive: true });
  const temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"].map(
    (kind) => `${kind}_temp_path ${directory}/${kind};`,
  );
  const config = `
    daemon off;
    user root;
    worker_processes 1;
    pid ${directory}/pid;
    error_log ${directory}/error.log;
    events { worker_connections 4096; }
    http {
      access_log off;
      keepalive_requests 1000000000;
      ${temporary.join("\n      ")}
      server {
        listen ${HTTP_PORT} backlog=4096;
        location / { return 200 "ok\\n"; }
      }
    }`;
  const path = join(directory, "nginx.conf");
  writeFileSync(path, config);
  return ["nginx", "-c", path, "-e", `${directory}/error.log`];
}

function haproxy(directory: string, listen: string, server: string): string[] {
  const path = join(directory, "haproxy.cfg");
  const config = `
global
  maxconn 8192
defaults
  mode tcp
  timeout connect 5s
  timeout client 60s
  timeout server 60s
listen ingress
  bind ${listen} backlog 4096
  server task ${server}
`;
  writeFileSync(path, config);
  return ["haproxy", "-db", "-f", path];
}
