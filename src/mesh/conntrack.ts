// The kernel's own tracking of connections to published ports: entries that lead elsewhere end, and what it drops is counted.
import { readFile } from "node:fs/promises";
import { CommandError, run } from "../lib/command.ts";
import { type Cidr, contains, ipv4 } from "../lib/ip.ts";
import type { MeshPort } from "./mesh.ts";

/** The kernel's counters in this process's network namespace: a line of hexadecimal numbers for each processor. */
const STATISTICS_PATH = "/proc/self/net/stat/nf_conntrack";

type Conntrack = (argv: readonly string[]) => Promise<string>;

const conntrackProgram: Conntrack = (argv) => run(["conntrack", ...argv]);

/** Ends the UDP flows to these ports. `conntrack` stands in for the program in tests. */
export async function endUdpFlows(ports: ReadonlySet<number>, conntrack: Conntrack = conntrackProgram): Promise<void> {
  const listing = await conntrack(["-L", "-p", "udp"]);
  const used = new Set([...listing.matchAll(/^udp .*? dport=(\d+)/gm)].map(([, port]) => Number(port)));
  for (const port of ports) if (used.has(port)) await end(conntrack, ["-p", "udp", "--dport", String(port)]);
}

/**
 * Ends TCP entries of these ports that lead to a VIP to which the port does not lead any more: a client that uses its source port
 * again would be sent there. Entries that lead where the port leads stay, with their connections. Entries of ports that lead
 * nowhere stay too: resets for their clients go through them.
 */
export async function endStaleTcpFlows(
  ports: ReadonlySet<number>,
  all: readonly MeshPort[],
  pool: Cidr,
  conntrack: Conntrack = conntrackProgram,
): Promise<void> {
  const vipsByPort = new Map<number, Set<string>>();
  for (const { protocol, port, vip } of all) {
    if (protocol !== "tcp" || !ports.has(port)) continue;
    const vips = vipsByPort.get(port) ?? new Set();
    vipsByPort.set(port, vips.add(vip));
  }
  if (vipsByPort.size === 0) return;
  const stale = new Map<string, [port: number, vip: string]>();
  for (const [port, vip] of tcpTranslations(await conntrack(["-L", "-p", "tcp"]))) {
    const vips = vipsByPort.get(port);
    if (vips === undefined || vips.has(vip) || !contains(pool, ipv4(vip))) continue;
    stale.set(`${port} ${vip}`, [port, vip]);
  }
  for (const [port, vip] of stale.values())
    await end(conntrack, ["-p", "tcp", "--orig-port-dst", String(port), "--reply-src", vip]);
}

/** The port that each client asked, and the server that answers it: the first destination and the second source of an entry. */
function tcpTranslations(listing: string): [port: number, server: string][] {
  const entries = listing.matchAll(/^tcp .*? dport=(\d+) .*?src=([\d.]+) dst=/gm);
  return [...entries].map(([, port, server]) => [Number(port), server!]);
}

async function end(conntrack: Conntrack, filter: readonly string[]): Promise<void> {
  try {
    await conntrack(["-D", ...filter]);
  } catch (error) {
    // The flow has ended meanwhile.
    if (!(error instanceof CommandError) || error.exitCode !== 1) throw error;
  }
}

/**
 * Counts packets that the kernel dropped because its table of connections was full, and connections without an answer that
 * made room for others. All programs of the node share the table, so their packets count too. Empty where the kernel has no
 * such counters.
 */
export async function conntrackDrops(): Promise<Record<string, number>> {
  try {
    return conntrackDropsIn(await readFile(STATISTICS_PATH, "utf8"));
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return {};
    throw error;
  }
}

export function conntrackDropsIn(text: string): Record<string, number> {
  const [header = "", ...lines] = text.trimEnd().split("\n");
  const names = header.trim().split(/\s+/);
  const sum = (name: string): number => {
    const column = names.indexOf(name);
    return column < 0
      ? 0
      : lines.reduce((total, line) => total + Number.parseInt(line.trim().split(/\s+/)[column]!, 16), 0);
  };
  return { "conntrack-full": sum("drop"), "conntrack-evicted": sum("early_drop") };
}
