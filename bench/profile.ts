// The functions in which agents spend their time while one path is under load: with perf where it is installed (kernel and
// JavaScript), else with V8's own profiler (JavaScript alone).
import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { run } from "../test/system/command.ts";
import type { Lab } from "../test/system/lab.ts";
import { Background } from "./background.ts";
import { DnsServers } from "./dns.ts";
import { dnsperf } from "./dnsperf.ts";
import type { Sample } from "./experiment.ts";
import { Ingress } from "./ingress.ts";
import { KernelVxlan } from "./kernel-vxlan.ts";
import type { BenchOptions, Profile } from "./options.ts";
import { Overlay } from "./overlay.ts";
import { hasCommand } from "./packages.ts";
import { Probes } from "./probes.ts";
import { wrk } from "./wrk.ts";

const REQUESTS = 40_000;
const TOP = 45;
const SAMPLES_A_SECOND = 999;

export interface ProfileOptions {
  prefix: string;
  options: BenchOptions;
  /** Gets the steps that take everything down. */
  teardown: (() => Promise<void>)[];
}

/** Measures `what` under the profiler, and prints the functions that took the most time. */
export async function profile(what: Profile, { prefix, options, teardown }: ProfileOptions): Promise<void> {
  const { datapath } = options;
  const withPerf = hasCommand("perf");
  const beforeAgents = (lab: Lab): void => {
    const directory = profilesOf(lab);
    mkdirSync(directory, { recursive: true });
    // V8 keeps a log beside the names for perf; by default in the folder that it was started in.
    const forPerf = ["--perf-basic-prof", "--no-logfile-per-isolate", `--logfile=${join(directory, "v8.log")}`];
    runNodeWith(lab, withPerf ? forPerf : ["--cpu-prof", `--cpu-prof-dir=${directory}`]);
  };
  const overlay = await Overlay.start({ prefix, datapath, beforeAgents });
  const { lab } = overlay;
  teardown.push(() => lab.teardown());
  const probes = await Probes.compile(join(lab.directory, "probes"));
  teardown.push(() => probes.close());
  const load = await loadOf(what, { prefix, options, teardown }, overlay, probes);
  await load(); // what is compiled later is not what is to be seen
  if (withPerf) await perfReport(overlay, load);
  else await v8Report(overlay, load);
}

async function loadOf(
  what: Profile,
  { prefix, options, teardown }: ProfileOptions,
  overlay: Overlay,
  probes: Probes,
): Promise<() => Promise<Sample>> {
  const { seconds } = options;
  switch (what) {
    case "tcp":
      return () => probes.tcp(overlay.direct, { streams: 1, seconds, back: false });
    case "mesh":
      return () => probes.tcp(overlay.mesh, { streams: 1, seconds, back: false });
    case "udp":
      return () => probes.delivered(overlay.direct, seconds);
    case "rr":
      return () => probes.requests(overlay.direct, REQUESTS);
    case "cps":
      return () => probes.connections(overlay.vip, seconds);
    case "dns": {
      const kernel = await KernelVxlan.build(overlay.lab, prefix);
      const servers = await DnsServers.start({ overlay, kernel, options });
      teardown.push(() => servers.close());
      return async () => ({ ...(await dnsperf(servers.overlayd)) });
    }
    case "ingress": {
      const kernel = await KernelVxlan.build(overlay.lab, prefix);
      const ingress = await Ingress.start(overlay, kernel);
      teardown.push(() => ingress.close());
      return () => wrk(ingress.mesh, seconds, true);
    }
  }
}

function profilesOf(lab: Lab): string {
  return join(lab.directory, "profiles");
}

/** Puts flags for Node into the command that starts the agents. */
function runNodeWith(lab: Lab, flags: readonly string[]): void {
  const path = join(lab.directory, "bin", "overlayd");
  const script = readFileSync(path, "utf8");
  writeFileSync(path, script.replace(`"${process.execPath}"`, `"${process.execPath}" ${flags.join(" ")}`));
}

async function perfReport(overlay: Overlay, load: () => Promise<Sample>): Promise<void> {
  const { lab } = overlay;
  const path = join(profilesOf(lab), "perf.data");
  const agents = overlay.agents();
  const options = ["-q", "-e", "cpu-clock", "-F", `${SAMPLES_A_SECOND}`, "-p", agents.join(","), "-o", path];
  const record = `echo ready; exec perf record ${options.join(" ")}`;
  const recorder = await Background.start(lab.nodes[0]!, ["sh", "-c", record], /ready/);
  const sample = await load();
  process.kill(recorder.pid, "SIGINT");
  await recorder.output().catch(() => {}); // ended by a signal, as asked
  console.log(sample);
  const views = [
    ["by thread", "pid"],
    ["by what it runs", "dso"],
    ["by function", "symbol"],
  ] as const;
  for (const [title, key] of views) {
    const argv = ["perf", "report", "-i", path, "--stdio", "--no-children", "-g", "none", "--sort", key];
    const lines = (await run(argv)).split("\n").filter((line) => /^\s*\d/.test(line));
    console.log(`\n# the agents' time, ${title}`);
    for (const line of lines.slice(0, TOP)) console.log(line.replace(/[\s-]+$/, ""));
  }
  for (const pid of agents) rmSync(`/tmp/perf-${pid}.map`, { force: true });
}

interface CpuProfile {
  nodes: { id: number; callFrame: { functionName: string; url: string; lineNumber: number } }[];
  samples: number[];
}

async function v8Report(overlay: Overlay, load: () => Promise<Sample>): Promise<void> {
  const { lab } = overlay;
  console.log("perf is not there: only the agents' JavaScript is seen (apt-get install linux-perf)");
  console.log(await load());
  for (const node of lab.nodes) await node.stopAgent();
  const directory = profilesOf(lab);
  for (const file of readdirSync(directory)) {
    const text = readFileSync(join(directory, file), "utf8");
    console.log(`\n# ${file}\n${topFunctions(JSON.parse(text) as CpuProfile).join("\n")}`);
  }
}

/** The functions that were running in most samples; the functions that they called are counted for themselves. */
function topFunctions({ nodes, samples }: CpuProfile): string[] {
  const names = new Map(
    nodes.map(({ id, callFrame: { functionName, url, lineNumber } }) => [
      id,
      `${functionName || "(anonymous)"} ${url.split("/").slice(-2).join("/")}:${lineNumber + 1}`,
    ]),
  );
  const counts = new Map<string, number>();
  for (const id of samples) {
    const name = names.get(id)!;
    counts.set(name, (counts.get(name) ?? 0) + 1);
  }
  return [...counts]
    .sort(([, a], [, b]) => b - a)
    .slice(0, TOP)
    .map(([name, count]) => `${((100 * count) / samples.length).toFixed(2).padStart(6)} %  ${name}`);
}
