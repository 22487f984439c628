// What the kernel of a node must hold so that every packet of a container passes the agent: as a value.
import { type Cidr, type Ipv4, ipv4, macOf } from "../lib/ip.ts";

/** One container's attachment to one network. */
export interface DesiredEndpoint {
  readonly address: string;
  /** The subnet of its network: what leaves by this link when it is not the first of its container. */
  readonly subnet: Cidr;
  /** The container's network namespace, a name under /run/netns. */
  readonly netns: string;
  /** `ethN` inside. `eth0` has the default route. */
  readonly ifname: string;
  /** Bytes of the largest packet on its network: less on an encrypted one. */
  readonly mtu: number;
}

export interface DesiredLinks {
  /** The TUN. */
  readonly device: string;
  /** The TUN's. */
  readonly mtu: number;
  readonly pool: Cidr;
  /** The node's own address on the ingress network; null while it has none, and then the node cannot reach the pool. */
  readonly ingressAddress: string | null;
  /** Gateways of all networks, present on every node. */
  readonly gateways: readonly string[];
  readonly endpoints: readonly DesiredEndpoint[];
  /**
   * Addresses whose links stay in their namespaces, though no endpoint names those: their containers have not been found
   * yet. "all": the cluster has not said yet what it wants, so no link is removed.
   */
  readonly held: readonly string[] | "all";
}

/** A node without containers and without an address of its own. */
export function noLinks(device: string, pool: Cidr, mtu: number): DesiredLinks {
  return { device, mtu, pool, ingressAddress: null, gateways: [], endpoints: [], held: [] };
}

/** The routing table for packets that come out of the TUN, and the preference of the rule that leads there. */
export const TABLE = "4790";
export const RULE_PREFERENCE = 11;

/** What containers use as next hop; the host end of every veth answers to HOST_MAC. */
export const NEXT_HOP = "169.254.1.1";
export const HOST_MAC = macOf(ipv4(NEXT_HOP));

/** The largest super-packet of a container's end: it still fits one UDP_SEGMENT send once it is encapsulated. */
export const GSO_MAX_BYTES = 61_000;
/**
 * The largest super-packet of a host end, the kernel's default: a larger one the kernel would cut in software on its way into
 * the container.
 */
export const HOST_GSO_MAX_BYTES = 65_536;

/** Host ends' names begin with this; the TUN's must not. */
export const VETH_PREFIX = "ovl";
const VETH = new RegExp(`^${VETH_PREFIX}[0-9a-f]{8}$`);

/** The host end's name: the endpoint's address in hex, so that it is found again. */
export function vethName(address: string): string {
  return VETH_PREFIX + (ipv4(address) >>> 0).toString(16).padStart(8, "0");
}

/** The address of the endpoint behind a host end of this name. */
export function addressOfVeth(name: string): Ipv4 {
  return Number.parseInt(name.slice(VETH_PREFIX.length), 16) | 0;
}

export function isVethName(name: string): boolean {
  return VETH.test(name);
}

/** The number in `ethN`. */
export function interfaceIndex(ifname: string): number {
  const match = /^eth(\d{1,2})$/.exec(ifname);
  if (match === null) throw new RangeError(`'${ifname}' is not eth0 to eth99`);
  return Number(match[1]);
}
