// What the kernel holds now, as far as it is ours: three processes for the node, one for each container looked into.
import { CommandError, run } from "../lib/command.ts";
import { exists } from "../lib/exists.ts";
import { type DesiredEndpoint, type DesiredLinks, isVethName, TABLE, vethName } from "./desired.ts";
import { addAddress, addNeighbour, addRoute, addRule, desiredSysctls, emptyFacts, type FactSet } from "./facts.ts";
import { answersIn, asPlatformError, ipPrint, ipQuery } from "./iproute.ts";
import { readSysctls, type Sysctls } from "./sysctl.ts";

export interface Link {
  ifindex: number;
  kind: string;
  mtu: number;
  up: boolean;
  /** The far end is up as well. */
  carrier: boolean;
  mac: string;
  gsoMaxBytes: number;
  /** The index of a veth's far end, in the far end's namespace. */
  peerIndex: number | undefined;
  /** Whether it is a TUN that was made for several queues, and to stay. */
  adoptable: boolean;
  /** Whether it is a TUN whose user and group are root, so that no other user may attach to it. */
  isRoots: boolean;
}

/** Links and facts of a container's namespace. */
export interface ContainerLinks {
  links: Map<string, Link>;
  facts: FactSet;
}

export interface ActualLinks {
  device: Link | undefined;
  /** Host ends, by name. */
  veths: Map<string, Link>;
  facts: FactSet;
  /** What the filters of each host end with a clsact qdisc do (see filterOf), by its name. */
  filters: Map<string, string>;
  sysctls: Sysctls;
  /** The kernel has IPv6. */
  ipv6: boolean;
  /** The containers that were looked into, by namespace; null: there is no such namespace. */
  containers: Map<string, ContainerLinks | null>;
  /** What printNode() and printFilters() gave; undefined: a link went meanwhile. */
  printed: { node: string; filters: string } | undefined;
}

const NODE_QUERIES = [
  "addr show",
  "neigh show nud permanent",
  "rule show",
  "route show table main",
  `route show table ${TABLE}`,
];

/** What ip prints of the node. */
export function printNode(): Promise<string> {
  return ipPrint(null, NODE_QUERIES);
}

/** What printNode() gave without what goes by itself: timers of bridges, and life times of addresses. Nothing here reads them. */
export function lastingPart(node: string): string {
  return node.replaceAll(/"(?:\w+_timer|(?:valid|preferred)_life_time)":\s*[\d.]+/g, "");
}

/** Reads the TUN; undefined when there is no link of that name. */
export async function readDevice(device: string): Promise<Link | undefined> {
  const [addr] = await ipQuery(null, ["addr show"]);
  return readAddresses(addr as AddrJson[]).links.get(device);
}

/** Reads the node, and the containers of the endpoints for which `inside` is true: it takes an endpoint, and the host end that it has. */
export async function readLinks(
  desired: DesiredLinks,
  inside: (endpoint: DesiredEndpoint, veth: Link | undefined) => boolean,
): Promise<ActualLinks> {
  const node = await printNode();
  const [addr, neigh, rule, main, table] = answersIn(node, NODE_QUERIES);
  const links = readAddresses(addr as AddrJson[]);
  const facts = emptyFacts();
  for (const { name, address } of links.addresses) if (name === desired.device) addAddress(facts, address, name);
  for (const route of main as RouteJson[]) if (route.dev === desired.device) readRoute(facts, route, null);
  for (const route of table as RouteJson[]) readRoute(facts, route, TABLE);
  for (const entry of rule as RuleJson[]) if (entry.table === TABLE) readRule(facts, entry);
  for (const entry of neigh as NeighJson[]) if (isVethName(entry.dev)) readNeighbour(facts, entry);
  const veths = new Map([...links.links].filter(([name, link]) => link.kind === "veth" && isVethName(name)));
  const unknown = desired.endpoints.filter((endpoint) => inside(endpoint, veths.get(vethName(endpoint.address))));
  const ipv6 = await exists("/proc/sys/net/ipv6");
  const filters = await printFilters([...veths.keys()]);
  return {
    device: links.links.get(desired.device),
    veths,
    facts,
    filters: filters === undefined ? await readFiltersSingly([...veths.keys()]) : filtersIn(filters, [...veths.keys()]),
    sysctls: await readSysctls(desiredSysctls(desired, ipv6).keys()),
    ipv6,
    containers: await readContainers(new Set(unknown.map((endpoint) => endpoint.netns))),
    printed: filters === undefined ? undefined : { node, filters },
  };
}

/** Destinations of the main table, with the text that names each to a person. */
export async function readHostRoutes(device: string): Promise<{ dst: string; text: string }[]> {
  const [main] = await ipQuery(null, ["route show table main"]);
  return (main as RouteJson[])
    .filter((route) => route.dev !== device && route.dst !== "default")
    .map((route) => ({
      dst: route.dst.includes("/") ? route.dst : `${route.dst}/32`,
      text: `${route.dst}${route.gateway === undefined ? "" : ` via ${route.gateway}`} dev ${route.dev ?? "-"}`,
    }));
}

export interface AddrJson {
  ifindex: number;
  ifname: string;
  flags: string[];
  mtu: number;
  address?: string;
  link_index?: number;
  gso_max_size?: number;
  linkinfo?: {
    info_kind?: string;
    info_data?: {
      type?: string;
      multi_queue?: boolean;
      persist?: boolean;
      user?: string | number;
      group?: string | number;
    };
  };
  addr_info?: { family: string; local: string; prefixlen: number }[];
}

interface RouteJson {
  type?: string;
  dst: string;
  gateway?: string;
  dev?: string;
  scope?: string;
  prefsrc?: string;
  flags?: string[];
  table?: string;
}

interface RuleJson {
  priority: number;
  src: string;
  srclen?: number;
  iif?: string;
  table: string;
}

interface NeighJson {
  dst: string;
  dev: string;
  lladdr?: string;
}

export function readAddresses(rows: AddrJson[]) {
  const links = new Map<string, Link>();
  const addresses: { name: string; address: string }[] = [];
  for (const row of rows) {
    const tun = row.linkinfo?.info_data;
    links.set(row.ifname, {
      ifindex: row.ifindex,
      kind: row.linkinfo?.info_kind ?? "",
      mtu: row.mtu,
      up: row.flags.includes("UP"),
      carrier: row.flags.includes("LOWER_UP"),
      mac: row.address ?? "",
      gsoMaxBytes: row.gso_max_size ?? 0,
      peerIndex: row.link_index,
      adoptable: tun?.type === "tun" && tun.multi_queue === true && tun.persist === true,
      isRoots: isRoot(tun?.user) && isRoot(tun?.group),
    });
    for (const { family, local, prefixlen } of row.addr_info ?? []) {
      if (family === "inet") addresses.push({ name: row.ifname, address: `${local}/${prefixlen}` });
    }
  }
  return { links, addresses };
}

/** ip gives a number where the machine has no name for it. */
function isRoot(id: string | number | undefined): boolean {
  return id === "root" || id === 0;
}

function readRoute(facts: FactSet, route: RouteJson, table: string | null): void {
  addRoute(facts, { ...route, onlink: route.flags?.includes("onlink") === true, table });
}

function readRule(facts: FactSet, rule: RuleJson): void {
  const source = rule.srclen === undefined ? rule.src : `${rule.src}/${rule.srclen}`;
  const parts = [rule.src === "all" ? "" : `from ${source}`, rule.iif === undefined ? "" : `iif ${rule.iif}`];
  addRule(facts, rule.priority, parts.filter((part) => part !== "").join(" "), rule.table);
}

function readNeighbour(facts: FactSet, entry: NeighJson): void {
  addNeighbour(facts, entry.dst, entry.lladdr ?? "", entry.dev);
}

/** What tc prints of the host ends' qdiscs and filters; undefined: one has gone meanwhile, and the answers cannot be told apart any more. */
export async function printFilters(veths: readonly string[]): Promise<string | undefined> {
  if (veths.length === 0) return "";
  const queries = veths.map((name) => `qdisc show dev ${name}\nfilter show dev ${name} ingress\n`);
  try {
    return await run(["tc", "-batch", "-"], queries.join(""));
  } catch (error) {
    if (!(error instanceof CommandError) || !/Cannot find device/.test(error.stderr)) throw asPlatformError(error);
    return undefined;
  }
}

/** tc's text: its JSON of u32 cannot be parsed before iproute2 6. The root qdisc's line parts one link from the next. */
function filtersIn(output: string, veths: readonly string[]): Map<string, string> {
  const filters = new Map<string, string>();
  const sections = output.split(/^(?=qdisc \S+ \S+ root)/m).filter((section) => section.startsWith("qdisc"));
  for (const [index, section] of sections.entries()) {
    const name = veths[index];
    if (name === undefined || !/^qdisc clsact /m.test(section)) continue;
    filters.set(name, readFilter(section));
  }
  return filters;
}

async function readFiltersSingly(veths: readonly string[]): Promise<Map<string, string>> {
  const filters = new Map<string, string>();
  for (const name of veths) {
    try {
      const section = await run(["tc", "-batch", "-"], `qdisc show dev ${name}\nfilter show dev ${name} ingress\n`);
      if (/^qdisc clsact /m.test(section)) filters.set(name, readFilter(section));
    } catch (error) {
      if (!(error instanceof CommandError)) throw asPlatformError(error);
    }
  }
  return filters;
}

/** Every u32 match and redirection, in order: "0ac00005/ffffffff at 12 > overlay0". */
export function readFilter(text: string): string {
  const parts: string[] = [];
  for (const match of text.matchAll(/match (\S+ at \d+)|mirred \(Egress Redirect to device (\S+)\)/g)) {
    parts.push(match[1] ?? `> ${match[2]}`);
  }
  return parts.join(" ");
}

/** One at a time: a thousand containers must not become a thousand processes. */
async function readContainers(namespaces: ReadonlySet<string>): Promise<Map<string, ContainerLinks | null>> {
  const containers = new Map<string, ContainerLinks | null>();
  for (const netns of namespaces) containers.set(netns, await readContainer(netns));
  return containers;
}

async function readContainer(netns: string): Promise<ContainerLinks | null> {
  if (!(await exists(`/run/netns/${netns}`))) return null;
  const queries = ["addr show", "neigh show nud permanent", "rule show", "route show table all"];
  const [addr, neigh, rule, routes] = await ipQuery(netns, queries);
  const { links, addresses } = readAddresses(addr as AddrJson[]);
  const facts = emptyFacts();
  for (const { name, address } of addresses) addAddress(facts, address, name);
  for (const route of routes as RouteJson[]) {
    readRoute(facts, route, route.table === "main" ? null : (route.table ?? null));
  }
  for (const entry of rule as RuleJson[]) readRule(facts, entry);
  for (const entry of neigh as NeighJson[]) readNeighbour(facts, entry);
  return { links, facts };
}
