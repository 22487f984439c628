// The handlers of questions, in order: the first that knows an answer gives it.
import type { SoaData } from "dns-packet";
import { type Cidr, type Ipv4, ipv4, maskOf, parseIpv4 } from "../lib/ip.ts";
import type { Random } from "../lib/random.ts";
import { type Answer, codeOnly, type DnsRecord, type Query, Rcode, Type } from "./message.ts";
import { beforeNetwork, type NamedNetwork } from "./named-networks.ts";
import type { Asker, Names } from "./names.ts";
import type { OutsideResolver } from "./resolver.ts";

export type Handler = (query: Query, asker: Asker) => Answer | Promise<Answer> | undefined;

/** The handlers, in the order in which they are asked. The last one answers everything. */
export function createHandlers(random: Random, forwarder: OutsideResolver): Handler[] {
  return [
    refuseTransfers,
    answerSpecialNames,
    answerDomain,
    (query, asker) => answerOverlayName(query, asker, random),
    (query, asker) => answerService(query, asker, random),
    answerParent,
    denyDomain,
    answerReverse,
    (query, asker) => (forwarder.hasRoute(query.name, asker) ? forwarder.resolve(query, asker) : undefined),
    denyOwnForms,
    (query, asker) => forwarder.resolve(query, asker),
  ];
}

const refuseTransfers: Handler = ({ type }) =>
  type === Type.AXFR || type === Type.IXFR ? codeOnly(Rcode.Refused) : undefined;

const LOOPBACK = ipv4("127.0.0.1");

/** Names that no other server is ever asked for: RFC 6761 sections 6.3 and 6.4, RFC 7686. */
const answerSpecialNames: Handler = (query, asker) => {
  const topLevel = query.name.slice(query.name.lastIndexOf(".") + 1);
  if (topLevel === "invalid" || topLevel === "onion") return negative(Rcode.NXDomain, "", asker);
  if (topLevel !== "localhost") return undefined;
  return wantsAddress(query) ? addressesOf([LOOPBACK], asker.names.ttlSeconds) : negative(Rcode.NoError, "", asker);
};

/** `search`, `tasks.search`, `search.1`, endpoints, alone or before `.<network>` and `.<domain>`. */
function answerOverlayName(query: Query, asker: Asker, random: Random): Answer | undefined {
  const found = asker.names.find(query.name, asker.networks);
  if (found === undefined) return undefined;
  const { addresses, labels, ttlSeconds } = found.entry;
  if (query.type === Type.TXT && labels.length > 0)
    return positive(labels.map((label) => labelRecord(label, ttlSeconds)));
  if (!wantsAddress(query) || addresses.length === 0) return negative(Rcode.NoError, zoneOf(query.name, asker), asker);
  return addressesOf(addresses.length > 1 ? shuffled(addresses, random) : addresses, ttlSeconds);
}

/** The record of one label, RFC 1464, in as many strings as its length needs. */
function labelRecord(label: string, ttl: number): DnsRecord {
  const bytes = Buffer.from(label);
  const strings: Buffer[] = [];
  for (let start = 0; start < bytes.length; start += MAX_STRING_BYTES)
    strings.push(bytes.subarray(start, start + MAX_STRING_BYTES));
  return { type: "TXT", name: "", ttl, data: strings };
}

const MAX_STRING_BYTES = 255;
/** Port or none, protocol, and the name of the host. */
export const SERVICE = /^(?:_(\d{1,5})\.)?_(tcp|udp)\.(.+)$/;

/** SRV, RFC 2782: `_9200._tcp.search` gives the port and the name to connect to, with its address. */
function answerService(query: Query, asker: Asker, random: Random): Answer | undefined {
  const match = query.name.startsWith("_") ? SERVICE.exec(query.name) : null;
  if (match === null) return undefined;
  const [, port, protocol, host] = match;
  const found = asker.names.find(host!, asker.networks);
  if (found === undefined) return undefined;
  const zone = zoneOf(query.name, asker);
  if (port === undefined) {
    const isParent = [...found.entry.ports].some((other) => other.endsWith(`/${protocol}`));
    return negative(isParent ? Rcode.NoError : Rcode.NXDomain, zone, asker);
  }
  const wanted = `${Number(port)}/${protocol}`;
  if (!found.entry.ports.has(wanted)) return negative(Rcode.NXDomain, zone, asker);
  if (query.type !== Type.SRV && query.type !== Type.ANY) return negative(Rcode.NoError, zone, asker);
  const { entry, network } = found;
  const targets = entry.targets.filter(({ ports }) => ports.has(wanted));
  if (targets.length === 0) return negative(Rcode.NoError, zone, asker);
  return {
    kind: "services",
    targets: shuffled(targets, random),
    zone: asker.names.zoneOf(network),
    port: Number(port),
    ttlSeconds: entry.ttlSeconds,
  };
}

/** The domain and its name server, whatever else has these names. */
const answerDomain: Handler = (query, asker) => {
  const { domain, nameserver, ttlSeconds } = asker.names;
  if (query.name === nameserver) {
    return wantsAddress(query) ? addressesOf([asker.via], ttlSeconds) : negative(Rcode.NoError, domain, asker);
  }
  if (query.name !== domain) return undefined;
  if (query.type === Type.SOA || query.type === Type.ANY)
    return positive([{ type: "SOA", name: domain, ttl: ttlSeconds, data: soaOf(asker.names) }]);
  if (query.type === Type.NS) return positive([{ type: "NS", name: domain, ttl: ttlSeconds, data: nameserver }]);
  return negative(Rcode.NoError, domain, asker);
};

/** A name exists when there are names below it, RFC 8020: a network's own, `1` of `search.1`. */
const answerParent: Handler = (query, asker) =>
  asker.names.isParent(query.name, asker.networks)
    ? negative(Rcode.NoError, zoneOf(query.name, asker), asker)
    : undefined;

const denyDomain: Handler = (query, asker) =>
  asker.names.isUnderDomain(query.name) ? negative(Rcode.NXDomain, asker.names.domain, asker) : undefined;

const REVERSE_DOMAIN = "in-addr.arpa";

/** Names of addresses. No other server is asked for those of the overlay's addresses. */
const answerReverse: Handler = (query, asker) => {
  const reverse = parseReverse(query.name);
  if (reverse === undefined || !asker.names.isOurs(reverse.prefix)) return undefined;
  const { prefix, isBelow } = reverse;
  const found = prefix.bits === 32 && !isBelow ? asker.names.nameOf(prefix.base, asker.networks) : undefined;
  if (found === undefined) {
    return negative(prefix.bits === 32 ? Rcode.NXDomain : Rcode.NoError, REVERSE_DOMAIN, asker);
  }
  if (query.type !== Type.PTR && query.type !== Type.ANY) return negative(Rcode.NoError, REVERSE_DOMAIN, asker);
  const data = asker.names.fullName(found.name, found.network);
  return positive([{ type: "PTR", name: "", ttl: found.ttlSeconds, data }]);
};

/** The prefix of `4.3.2.1.in-addr.arpa` or of fewer labels, and whether the name has more labels below an address's. */
export function parseReverse(name: string): { prefix: Cidr; isBelow: boolean } | undefined {
  if (!name.endsWith(`.${REVERSE_DOMAIN}`)) return undefined;
  const labels = name.slice(0, -REVERSE_DOMAIN.length - 1).split(".");
  const octets = labels.slice(-4).reverse();
  const bits = 8 * octets.length;
  const base = parseIpv4([...octets, "0", "0", "0"].slice(0, 4).join("."));
  return base === undefined ? undefined : { prefix: { base: base & maskOf(bits), bits }, isBelow: labels.length > 4 };
}

/** The types that resolvers ask of top-level domains; the root's servers are asked for no others. */
const ASKED_OF_TLDS: ReadonlySet<number> = new Set([Type.NS, Type.SOA, Type.DS, Type.DNSKEY]);

/**
 * Denies names of forms that only overlay names have, when they do not exist or this client does not see them: single
 * labels, what ends in the name of a network of the client, `tasks.x`, `x.1`, and SRV names of those. No other server could
 * know them, and a question would show the world what runs here.
 */
const denyOwnForms: Handler = (query, asker) => {
  const { names, networks } = asker;
  const host = query.name.replace(/^(_[^.]+\.)+/, "");
  if (host === "") return undefined; // the root
  const isOwn = isUnder(networks, host) || isTasks(host) || isElsewhere(host, names);
  const isSingle = !host.includes(".");
  if (!isOwn && (!isSingle || (host === query.name && ASKED_OF_TLDS.has(query.type)))) return undefined;
  // There are names below `arpa`, and below those that the domain is under: RFC 8020.
  const isParent = query.name === "arpa" || names.domain.endsWith(`.${query.name}`);
  return negative(isParent ? Rcode.NoError : Rcode.NXDomain, "", asker);
};

/** Whether the name is a network's or below one. Otherwise a name of the outside would stand in for one that is gone. */
function isUnder(networks: readonly NamedNetwork[], host: string): boolean {
  return networks.some((network) => network.name === host || beforeNetwork(host, network) !== undefined);
}

/** Whether the name is `tasks.x` or `x.1`. */
function isTasks(host: string): boolean {
  return /^tasks\.[^.]+$|(^|\.)\d+$/.test(host);
}

/** Whether the name is of a network that the client is not on. Other names there may be of the outside: `app` and `dev` are domains too. */
function isElsewhere(host: string, names: Names): boolean {
  return names.networksIn(host).some((network) => {
    const before = beforeNetwork(host, network);
    if (before === undefined) return true;
    return isTasks(before) || names.find(host, [network]) !== undefined;
  });
}

function wantsAddress({ type }: Query): boolean {
  return type === Type.A || type === Type.ANY;
}

function addressesOf(addresses: readonly Ipv4[], ttlSeconds: number): Answer {
  return { kind: "addresses", addresses, ttlSeconds };
}

function positive(records: readonly DnsRecord[]): Answer {
  return { kind: "records", records };
}

function negative(rcode: Rcode, zone: string, { names }: Asker): Answer {
  return { kind: "negative", rcode, zone, ttlSeconds: names.ttlSeconds, soa: soaOf(names) };
}

/** The zone whose SOA goes with a negative answer: the domain, or for short names the root. */
function zoneOf(name: string, { names }: Asker): string {
  return names.isUnderDomain(name) ? names.domain : "";
}

function soaOf(names: Names): SoaData {
  return {
    mname: names.nameserver,
    rname: `hostmaster.${names.domain}`,
    serial: names.serial,
    refresh: 60,
    retry: 10,
    expire: 3600,
    minimum: names.ttlSeconds,
  };
}

/** A copy in random order: so clients that take the first address spread evenly, and what does not fit is not always the same. */
function shuffled<T>(some: readonly T[], random: Random): T[] {
  const copy = [...some];
  for (let i = copy.length - 1; i > 0; i--) {
    const j = Math.floor(random() * (i + 1));
    const held = copy[i]!;
    copy[i] = copy[j]!;
    copy[j] = held;
  }
  return copy;
}
