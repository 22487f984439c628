// What of the mesh the express lane's program at the node's links leads to the agent, and at which links it may be.
import { readFileSync } from "node:fs";
import type { HeldPort } from "../cluster/schema.ts";
import type { EntranceRow } from "../express/entrances.ts";
import { Entrance } from "../express/layout.ts";
import { EVERY_ADDRESS, ipv4 } from "../lib/ip.ts";
import { linkAddresses } from "../lib/link-addresses.ts";
import { VETH_PREFIX } from "../links/desired.ts";
import { ifindexOf, isEthernet } from "../linux/interfaces.ts";
import type { MeshPort } from "../mesh/mesh.ts";
import { Protocol } from "../packet/ipv4.ts";

/** What this node answers for clients outside. */
export interface Published {
  readonly ports: readonly MeshPort[];
  /** Those of `ports` that are left to processes of this node. */
  readonly held: readonly HeldPort[];
  /** The node's own addresses. */
  readonly addresses: readonly string[];
}

/** Strict: the kernel drops what comes from a sender to which another link leads (RFC 3704). The program cannot ask for routes. */
const STRICT = "1";

/** The rows of Published; `linkOf` gives the index of the link that has an address. */
export function entrancesOf(
  { ports, held, addresses }: Published,
  linkOf: (address: string) => number | undefined,
): EntranceRow[] {
  const onAddress = held.filter(({ address }) => address !== EVERY_ADDRESS);
  const isHeld = (port: { protocol: string; port: number }, address: string): boolean =>
    held.some((other) => other.port === port.port && other.protocol === port.protocol && other.address === address);
  const led = ports.flatMap((port): EntranceRow[] => {
    const { protocol, address, onEveryLink } = port;
    if (isHeld(port, EVERY_ADDRESS) || (address !== null && isHeld(port, address))) return [];
    const link = onEveryLink ? 0 : linkOf(address!);
    if (link === undefined) return [];
    const at = address === null ? 0 : ipv4(address);
    return [{ address: at, port: port.port, protocol: numberOf(protocol), kind: Entrance.Led, link }];
  });
  return [
    ...addresses.map((own) => ({ address: ipv4(own), port: 0, protocol: 0, kind: Entrance.OwnAddress, link: 0 })),
    ...onAddress.map(({ address, port, protocol }) => ({
      ...{ address: ipv4(address), port, protocol: numberOf(protocol), kind: Entrance.Held, link: 0 },
    })),
    ...led,
  ];
}

function numberOf(protocol: string): number {
  return protocol === "tcp" ? Protocol.Tcp : Protocol.Udp;
}

/** The running links by which clients may come: those with an address, and with Ethernet headers. */
export interface EntranceLinks {
  /** The links that get the program, with their indexes. */
  readonly led: ReadonlyMap<string, number>;
  /** Those with strict reverse path filtering: there nftables lead clients, behind the kernel's own check of their addresses. */
  readonly strict: readonly string[];
}

export function entranceLinks(device: string): EntranceLinks {
  const led = new Map<string, number>();
  const strict: string[] = [];
  for (const link of new Set(linkAddresses().map((own) => own.link))) {
    if (link === "lo" || link === device || link.startsWith(VETH_PREFIX)) continue;
    const index = ifindexOf(link);
    if (index === undefined || !isEthernet(link)) continue;
    if (reversePathFilterOf(link) === STRICT) strict.push(link);
    else led.set(link, index);
  }
  return { led, strict };
}

/** The index of the running link that has the address. */
export function linkOfAddress(address: string): number | undefined {
  const name = linkAddresses().find((own) => own.address === address)?.link;
  return name === undefined ? undefined : ifindexOf(name);
}

/** The larger of the link's own and that of all links counts; links.ts keeps the latter at 0. */
function reversePathFilterOf(link: string): string {
  try {
    return readFileSync(`/proc/sys/net/ipv4/conf/${link}/rp_filter`, "utf8").trim();
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return STRICT; // it went meanwhile
    throw error;
  }
}
