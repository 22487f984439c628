// Facts are addresses, routes, rules and neighbours in one form, desired and actual alike: what iproute2 takes after the verb.
// Two facts with the same key replace each other; equal text means that nothing is to do. The settings that links need are here too.
import { formatCidr, ipv4, macOf } from "../lib/ip.ts";
import {
  type DesiredEndpoint,
  type DesiredLinks,
  HOST_MAC,
  interfaceIndex,
  NEXT_HOP,
  RULE_PREFERENCE,
  TABLE,
  vethName,
} from "./desired.ts";
import type { Sysctls } from "./sysctl.ts";

export const OBJECTS = ["addr", "route", "rule", "neigh"] as const;
/** The kinds of facts, by `ip`'s words. */
export type FactObject = (typeof OBJECTS)[number];

/** The facts of one kind, keyed by what makes each unique in the kernel. */
export type Facts = Map<string, string>;
export type FactSet = Record<FactObject, Facts>;

export function emptyFacts(): FactSet {
  return { addr: new Map(), route: new Map(), rule: new Map(), neigh: new Map() };
}

interface Route {
  dst: string;
  dev?: string;
  type?: string;
  gateway?: string;
  scope?: string;
  prefsrc?: string;
  onlink?: boolean;
  /** null: main. */
  table: string | null;
}

/** `address` has its prefix length. */
export function addAddress(facts: FactSet, address: string, dev: string): void {
  const text = `${address} dev ${dev}`;
  facts.addr.set(text, text);
}

export function addRoute(facts: FactSet, route: Route): void {
  const text = [
    route.type === undefined || route.type === "unicast" ? "" : route.type,
    route.dst,
    route.gateway === undefined ? "" : `via ${route.gateway}`,
    route.dev === undefined ? "" : `dev ${route.dev}`,
    route.scope === undefined || route.scope === "global" ? "" : `scope ${route.scope}`,
    route.prefsrc === undefined ? "" : `src ${route.prefsrc}`,
    route.onlink === true ? "onlink" : "",
    route.table === null ? "" : `table ${route.table}`,
  ];
  facts.route.set(`${route.dst} ${route.table ?? "main"}`, text.filter((part) => part !== "").join(" "));
}

export function addRule(facts: FactSet, preference: number, selector: string, table: string): void {
  const text = `pref ${preference} ${selector} lookup ${table}`;
  facts.rule.set(text, text);
}

export function addNeighbour(facts: FactSet, address: string, mac: string, dev: string): void {
  facts.neigh.set(`${address} dev ${dev}`, `${address} lladdr ${mac} dev ${dev} nud permanent`);
}

/** The facts of the node's own network namespace. */
export function nodeFacts(desired: DesiredLinks): FactSet {
  const facts = emptyFacts();
  const { device, ingressAddress } = desired;
  const pool = formatCidr(desired.pool);
  if (ingressAddress !== null) {
    addAddress(facts, `${ingressAddress}/32`, device);
    addRoute(facts, { dst: pool, dev: device, scope: "link", prefsrc: ingressAddress, table: null });
  }
  for (const gateway of desired.gateways) addAddress(facts, `${gateway}/32`, device);
  addRule(facts, RULE_PREFERENCE, `iif ${device}`, TABLE);
  addRoute(facts, { dst: pool, type: "blackhole", table: TABLE });
  for (const { address } of desired.endpoints) {
    const dev = vethName(address);
    addRoute(facts, { dst: address, dev, scope: "link", table: TABLE });
    addNeighbour(facts, address, macOf(ipv4(address)), dev);
  }
  return facts;
}

/** Settings of the node, of the TUN and of each host end, by path below /proc/sys/net. */
export function desiredSysctls(desired: DesiredLinks, ipv6: boolean): Sysctls {
  const sysctls: Sysctls = new Map([
    ["ipv4/ip_forward", "1"],
    [`ipv4/conf/${desired.device}/rp_filter`, "0"],
    [`ipv4/conf/${desired.device}/accept_local`, "1"],
    [`ipv4/conf/${desired.device}/route_localnet`, "1"],
  ]);
  const names = desired.endpoints.map((endpoint) => vethName(endpoint.address));
  for (const name of names) sysctls.set(`ipv4/conf/${name}/rp_filter`, "1");
  if (ipv6) for (const name of [desired.device, ...names]) sysctls.set(`ipv6/conf/${name}/disable_ipv6`, "1");
  return sysctls;
}

/**
 * The facts of the container's namespace. A link beyond the first carries its own subnet, and has a rule of its own for what is
 * sent from its address: a reply to a host outside the subnet must leave by the link that has its source address.
 */
export function containerFacts(endpoint: DesiredEndpoint): FactSet {
  const facts = emptyFacts();
  const { address, ifname: dev } = endpoint;
  addAddress(facts, `${address}/32`, dev);
  addNeighbour(facts, NEXT_HOP, HOST_MAC, dev);
  const index = interfaceIndex(dev);
  if (index === 0) {
    addRoute(facts, { dst: NEXT_HOP, dev, scope: "link", table: null });
    addRoute(facts, { dst: "default", gateway: NEXT_HOP, dev, table: null });
    return facts;
  }
  const table = String(100 + index);
  const hop = { gateway: NEXT_HOP, dev, onlink: true };
  addRoute(facts, { dst: formatCidr(endpoint.subnet), ...hop, prefsrc: address, table: null });
  addRoute(facts, { dst: "default", ...hop, table });
  addRule(facts, 100 + index, `from ${address}`, table);
  return facts;
}

/** What the filter on the host end must do, in the form of read.ts. */
export function filterOf(address: string, device: string): string {
  return `${(ipv4(address) >>> 0).toString(16).padStart(8, "0")}/ffffffff at 12 > ${device}`;
}
