// From what is to what should be: the fewest commands, in an order in which nothing passes a link before it is guarded.
import { PlatformError } from "../lib/errors.ts";
import { ipv4, macOf } from "../lib/ip.ts";
import {
  type DesiredEndpoint,
  type DesiredLinks,
  GSO_MAX_BYTES,
  HOST_GSO_MAX_BYTES,
  HOST_MAC,
  isVethName,
  vethName,
} from "./desired.ts";
import {
  containerFacts,
  desiredSysctls,
  emptyFacts,
  type FactObject,
  type Facts,
  filterOf,
  nodeFacts,
  OBJECTS,
} from "./facts.ts";
import type { ActualLinks, ContainerLinks, Link } from "./read.ts";
import type { Sysctls } from "./sysctl.ts";

/** One line of a batch. */
export interface Step {
  line: string;
  /** The address of the endpoint that it is for. */
  endpoint?: string;
}

/** Carried out in this order. */
export interface Plan {
  /** ip: what must go, then the links that are missing. */
  links: Step[];
  /** ip, in a network namespace of its own: the TUN, when it is missing. */
  device: Step[];
  sysctls: Sysctls;
  /** tc: what leaves a container. */
  filters: Step[];
  /** ip: links up, addresses, routes, rules and neighbours. */
  facts: Step[];
  /** ip, in the containers' namespaces. */
  containers: Map<string, Step[]>;
  /** Endpoints that cannot be linked, and why. */
  problems: Map<string, string>;
}

/** The first step of the plan; undefined when there is nothing to do. */
export function firstStepOf({ links, device, sysctls, filters, facts, containers }: Plan): string | undefined {
  const step = links[0] ?? device[0] ?? filters[0] ?? facts[0] ?? [...containers.values()][0]?.[0];
  return step?.line ?? [...sysctls.keys()][0];
}

export function diff(desired: DesiredLinks, actual: ActualLinks): Plan {
  const plan: Plan = {
    links: [],
    device: [],
    sysctls: new Map(),
    filters: [],
    facts: [],
    containers: new Map(),
    problems: new Map(),
  };
  const device = diffDevice(desired, actual.device);
  plan.links.push(...device.remove);
  plan.device.push(...device.make);
  const kept = diffVeths(plan, desired, actual);
  const present = {
    ...desired,
    endpoints: desired.endpoints.filter((endpoint) => !plan.problems.has(endpoint.address)),
  };
  for (const [path, value] of desiredSysctls(present, actual.ipv6)) {
    if (actual.sysctls.get(path) !== value) plan.sysctls.set(path, value);
  }
  plan.facts.push(...device.shape);
  diffFacts(plan, present, actual, kept);
  for (const endpoint of present.endpoints) {
    const name = vethName(endpoint.address);
    const veth = kept.get(name);
    diffFilter(plan, endpoint, desired.device, veth === undefined ? undefined : actual.filters.get(name));
    if (veth === undefined || !veth.up || !isShaped(veth, endpoint.mtu, HOST_END)) {
      plan.facts.unshift({ line: linkSet(name, endpoint.mtu, HOST_END), endpoint: endpoint.address });
    }
    diffContainer(plan, endpoint, veth !== undefined, actual.containers.get(endpoint.netns));
  }
  return plan;
}

/** Throws PlatformError when something else has the TUN's name. */
export function diffDevice(
  { device, mtu }: DesiredLinks,
  actual: Link | undefined,
): Record<"remove" | "make" | "shape", Step[]> {
  // Without an owner any user of the node could attach a queue to the TUN, read packets, and send as any container. A new TUN
  // has no owner for a moment, so it is made in a network namespace that no user is in, and moved here.
  const make = [
    { line: `tuntap add dev ${device} mode tun multi_queue user 0 group 0` },
    { line: `link set dev ${device} netns ${process.pid}` },
  ];
  const shape = { line: `link set dev ${device} mtu ${mtu} up` };
  if (actual === undefined) return { remove: [], make, shape: [shape] };
  // An older version made this TUN, or an operator made it for another user. It is made anew, because a queue that a user
  // has attached stays attached.
  if (actual.adoptable && !actual.isRoots) return { remove: [{ line: `link del ${device}` }], make, shape: [shape] };
  if (actual.adoptable) return { remove: [], make: [], shape: actual.up && actual.mtu === mtu ? [] : [shape] };
  throw new PlatformError(`'${device}' exists and is no persistent multi-queue TUN`, `ip link del ${device}`);
}

/** Returns the host ends that stay. */
function diffVeths(plan: Plan, desired: DesiredLinks, actual: ActualLinks): Map<string, Link> {
  const kept = new Map<string, Link>();
  const missing: Step[] = [];
  const inTheWay = new Set<string>();
  for (const endpoint of desired.endpoints) {
    const { address, netns, ifname } = endpoint;
    const name = vethName(address);
    const veth = actual.veths.get(name);
    const container = actual.containers.get(netns);
    if (veth !== undefined && (container === undefined || isPair(name, veth, container?.links.get(ifname)))) {
      kept.set(name, veth);
    } else if (container === null) {
      plan.problems.set(address, `there is no network namespace '${netns}'`);
    } else if (container?.links.has(ifname) && !isOurs(actual, container.links.get(ifname)!)) {
      plan.problems.set(address, `network namespace '${netns}' has a link '${ifname}' already`);
    } else {
      inTheWay.add(name);
      const holder = container?.links.get(ifname);
      for (const [other, { ifindex }] of actual.veths) if (ifindex === holder?.peerIndex) inTheWay.add(other);
      missing.push({ line: vethAdd(endpoint), endpoint: address });
    }
  }
  const held = heldNames(desired, actual);
  for (const name of actual.veths.keys()) {
    const stays = kept.has(name) || (held.has(name) && !inTheWay.has(name));
    if (!stays) plan.links.push({ line: `link del dev ${name}` });
  }
  plan.links.push(...missing);
  return kept;
}

/** The host ends that stay unless a wanted link needs their place. */
function heldNames({ held }: DesiredLinks, { veths }: ActualLinks): ReadonlySet<string> {
  return new Set(held === "all" ? veths.keys() : held.map(vethName));
}

function isPair(name: string, veth: Link, inside: Link | undefined): boolean {
  return isVethName(name) && inside?.ifindex === veth.peerIndex && inside?.peerIndex === veth.ifindex;
}

/** Its far end is one of our host ends, which goes. */
function isOurs(actual: ActualLinks, inside: Link): boolean {
  return [...actual.veths.values()].some((veth) => veth.ifindex === inside.peerIndex);
}

/** What the two ends of a pair differ in. */
interface Shape {
  mac: string;
  gsoMaxBytes: number;
}

const HOST_END: Shape = { mac: HOST_MAC, gsoMaxBytes: HOST_GSO_MAX_BYTES };

function insideEnd(address: string): Shape {
  return { mac: macOf(ipv4(address)), gsoMaxBytes: GSO_MAX_BYTES };
}

function isShaped(link: Link, mtu: number, { mac, gsoMaxBytes }: Shape): boolean {
  return link.mtu === mtu && link.mac === mac && link.gsoMaxBytes === gsoMaxBytes;
}

function shapeWords(mtu: number, { mac, gsoMaxBytes }: Shape): string {
  return `address ${mac} mtu ${mtu} gso_max_size ${gsoMaxBytes}`;
}

function vethAdd({ address, netns, ifname, mtu }: DesiredEndpoint): string {
  const inside = `peer name ${ifname} netns ${netns} ${shapeWords(mtu, insideEnd(address))}`;
  return `link add ${vethName(address)} ${shapeWords(mtu, HOST_END)} type veth ${inside}`;
}

function linkSet(name: string, mtu: number, shape: Shape): string {
  return `link set dev ${name} ${shapeWords(mtu, shape)} up`;
}

function diffFilter(plan: Plan, { address }: DesiredEndpoint, device: string, actual: string | undefined): void {
  if (actual === filterOf(address, device)) return;
  const dev = `dev ${vethName(address)}`;
  if (actual !== undefined) plan.filters.push({ line: `qdisc del ${dev} clsact`, endpoint: address });
  const action = `action mirred egress redirect dev ${device}`;
  plan.filters.push(
    { line: `qdisc add ${dev} clsact`, endpoint: address },
    {
      line: `filter add ${dev} ingress protocol ip prio 1 u32 match ip src ${address}/32 ${action}`,
      endpoint: address,
    },
  );
}

function diffFacts(plan: Plan, desired: DesiredLinks, actual: ActualLinks, kept: ReadonlyMap<string, Link>): void {
  const wanted = nodeFacts(desired);
  const addresses = new Map(desired.endpoints.map(({ address }) => [vethName(address), address]));
  for (const object of OBJECTS) {
    const present: Facts = new Map();
    for (const [key, text] of actual.facts[object]) {
      const veth = vethIn(text);
      // The kernel removes what belongs to a host end together with it; what belongs to a held host end stays.
      if (veth !== undefined && actual.veths.has(veth) && !kept.has(veth)) continue;
      present.set(key, text);
      if (!wanted[object].has(key) && desired.held !== "all") plan.links.push({ line: `${object} del ${text}` });
    }
    for (const line of missingFacts(object, wanted[object], present)) {
      const endpoint = addresses.get(vethIn(line) ?? "");
      plan.facts.push(endpoint === undefined ? { line } : { line, endpoint });
    }
  }
}

function vethIn(text: string): string | undefined {
  return text.split(" ").find(isVethName);
}

function missingFacts(object: FactObject, desired: Facts, actual: Facts): string[] {
  const verb = object === "rule" ? "add" : "replace";
  return [...desired].filter(([key, text]) => actual.get(key) !== text).map(([, text]) => `${object} ${verb} ${text}`);
}

/** Only adds: what else a container has in its namespace is its own. */
function diffContainer(
  plan: Plan,
  endpoint: DesiredEndpoint,
  isKept: boolean,
  container: ContainerLinks | null | undefined,
): void {
  if (isKept && (container === undefined || container === null)) return;
  const { address, netns, ifname, mtu } = endpoint;
  const shape = insideEnd(address);
  const inside = isKept ? container?.links.get(ifname) : undefined;
  const isRight = inside?.up === true && isShaped(inside, mtu, shape);
  const lines = isRight ? [] : [linkSet(ifname, mtu, shape)];
  const present = isKept && container ? container.facts : emptyFacts();
  const desired = containerFacts(endpoint);
  for (const object of OBJECTS) lines.push(...missingFacts(object, desired[object], present[object]));
  if (lines.length === 0) return;
  const steps = plan.containers.get(netns) ?? [];
  plan.containers.set(netns, [...steps, ...lines.map((line) => ({ line, endpoint: address }))]);
}
