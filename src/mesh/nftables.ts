// The nftables table, as text: ports to VIPs, the way out for containers, and guards.
import type { HeldPort, Protocol } from "../cluster/schema.ts";
import { EVERY_ADDRESS, formatCidr } from "../lib/ip.ts";
import { DNS_PORT, STORE_PEER_PORT } from "../lib/standard-ports.ts";
import { KERNEL_DROPS } from "./kernel-drops.ts";
import type { DesiredMesh, MeshPort } from "./mesh.ts";

const PROTOCOLS = ["tcp", "udp"] as const;

/** A whole transaction for `nft -f`: replaces what the table held. `name` is the table's. */
export function ruleset(name: string, desired: DesiredMesh, held: readonly HeldPort[]): string {
  const { device, vethPrefix, tunnelPorts, ingressAddress, internal, storePeers } = desired;
  const tunnel = `udp dport { ${tunnelPorts.join(", ")} }`;
  const pool = formatCidr(desired.pool);
  const tun = `"${device}"`;
  const exceptions = [
    // Otherwise a published port would take the gateways' own ports, such as DNS, away.
    `ip daddr ${pool} return`,
    "fib daddr type != local return",
    ...PROTOCOLS.map((protocol) => `ip daddr . ${protocol} dport @${protocol}_held return`),
  ];
  // Between nodes there is nothing to translate; an entry would cost every datagram a look-up.
  const untrackedTunnel = `${tunnel} fib daddr type local notrack`;
  const leading = (statement: string): string[] => [
    ...PROTOCOLS.map((protocol) => `${statement} ip daddr . ${protocol} dport map @${protocol}_addresses`),
    ...PROTOCOLS.map((protocol) => `${statement} ${protocol} dport map @${protocol}_ports`),
  ];
  return [
    `add table ip ${name}`,
    `delete table ip ${name}`,
    `table ip ${name} {`,
    ...Object.values(KERNEL_DROPS).map((counter) => `  counter ${counter} { }`),
    ...collection("set vips", "ipv4_addr", [...new Set(desired.ports.map(({ vip }) => vip))].toSorted()),
    ...PROTOCOLS.flatMap((protocol) => collections(protocol, desired.ports, held)),
    ...chain("published", [...exceptions, ...leading("dnat to")]),
    // When a segment has no place in its connection, conntrack does not translate it, and the node's own stack would answer it
    // with a reset. So it is sent where its connection goes, and the task answers it (RFC 9293 section 3.10.7.4).
    ...chain("untracked", [...exceptions, ...leading("ip daddr set")]),
    ...chain("raw_from_overlay", [
      ...(internal.length === 0
        ? []
        : [`ip saddr { ${internal.map(formatCidr).join(", ")} } ip daddr != ${pool} ${drop("internal")}`]),
      untrackedTunnel,
      // Answers to clients that the express lane has led to the agent. The tracking of connections has not seen them ask.
      `ip saddr != ${pool} ip daddr != ${pool} notrack`,
      `ip daddr != ${pool} return`,
      // The data path tracks these; a second entry here would call half of each local flow invalid.
      "fib daddr type != local notrack",
      // A resolver takes a new port for each question: some thousands a second would fill the host's table.
      `udp dport ${DNS_PORT} notrack`,
    ]),
    ...chain("raw_from_node", [untrackedTunnel]),
    ...chain("raw", [
      "type filter hook prerouting priority raw; policy accept;",
      // Each packet of the overlay passes here: it meets no rule that is for other links.
      `iifname ${tun} goto raw_from_overlay`,
      'iifname "lo" goto raw_from_node',
      // Only the filter's redirection leads out of a container; what is left over on its link stops here.
      `iifname "${vethPrefix}*" ${drop("leftover")}`,
      // Overlay addresses come out of the TUN, or from the node itself.
      `ip saddr ${pool} ${drop("forged")}`,
      // A host of the LAN could route addresses of the pool here, and reach what no port is published for.
      `ip daddr ${pool} ${drop("routed")}`,
      // Such a host could also route an address of another link here, or 127.0.0.1, and reach what is published there only.
      ...PROTOCOLS.map(
        (protocol) => `ip daddr . ${protocol} dport @${protocol}_bound fib daddr . iif type != local ${drop("routed")}`,
      ),
      untrackedTunnel,
    ]),
    ...chain("raw_output", [
      "type filter hook output priority raw; policy accept;",
      `${tunnel} notrack`,
      `oifname ${tun} ip saddr ${pool} udp sport ${DNS_PORT} notrack`,
    ]),
    ...chain("prerouting", ["type nat hook prerouting priority dstnat; policy accept;", "jump published"]),
    ...chain("output", ["type nat hook output priority -100; policy accept;", "jump published"]),
    // A reply is never the first packet of a connection, unless another program made the kernel forget that: as one it would
    // go out with the VIP as its source, and stand in the way of the client's next packet.
    ...chain("input", [
      "type nat hook input priority 100; policy accept;",
      `iifname ${tun} ip saddr @vips ${drop("stray")}`,
    ]),
    ...chain("invalid", [
      "type filter hook prerouting priority mangle; policy accept;",
      "ct state invalid jump untracked",
    ]),
    ...chain("invalid_own", [
      "type route hook output priority mangle; policy accept;",
      "ct state invalid jump untracked",
    ]),
    ...chain("invalid_replies", [
      "type filter hook input priority filter; policy accept;",
      `iifname ${tun} ct state invalid ip saddr @vips ${drop("untranslated")}`,
    ]),
    ...(storePeers === null ? [] : chain("store", storeGuard(storePeers))),
    ...chain("invalid_from_own", [
      "type filter hook postrouting priority mangle; policy accept;",
      ...(ingressAddress === null
        ? []
        : [`oifname ${tun} ct state invalid ip saddr 127.0.0.0/8 ip saddr set ${ingressAddress}`]),
    ]),
    ...chain("leaving", [
      "type filter hook postrouting priority srcnat + 1; policy accept;",
      `iifname ${tun} ip saddr ${pool} ip daddr != ${pool} ${drop("untranslated")}`,
    ]),
    ...chain("postrouting", [
      "type nat hook postrouting priority srcnat; policy accept;",
      `iifname ${tun} ip saddr @vips ${drop("stray")}`,
      `iifname ${tun} ip saddr ${pool} ip daddr != ${pool} oifname != ${tun} masquerade`,
      ...(ingressAddress === null ? [] : [`oifname ${tun} ip saddr 127.0.0.0/8 snat to ${ingressAddress}`]),
    ]),
    "}",
    "",
  ].join("\n");
}

/** Only managers reach the store of one, whatever they then can show; a manager reaches its own. */
function storeGuard(peers: readonly string[]): string[] {
  return [
    "type filter hook input priority filter - 1; policy accept;",
    `iifname != "lo" tcp dport ${STORE_PEER_PORT} ip saddr != { ${peers.join(", ")} } ${drop("store")}`,
  ];
}

/** A lookup each, however many ports there are: those on every address, those on one, and those left to processes. */
function collections(protocol: Protocol, ports: readonly MeshPort[], held: readonly HeldPort[]): string[] {
  const own = ports.filter((port) => port.protocol === protocol && !isHeld(port, held)).sort((a, b) => a.port - b.port);
  const partlyHeld = held.filter((port) => port.protocol === protocol && port.address !== EVERY_ADDRESS);
  const isHeldThere = (port: MeshPort): boolean =>
    partlyHeld.some((other) => other.port === port.port && other.address === port.address);
  const bound = own.filter((port) => port.address !== null && !port.onEveryLink && !isHeldThere(port));
  return [
    ...collection(
      `map ${protocol}_ports`,
      "inet_service : ipv4_addr",
      own.filter(({ address }) => address === null).map(({ port, vip }) => `${port} : ${vip}`),
    ),
    ...collection(
      `map ${protocol}_addresses`,
      "ipv4_addr . inet_service : ipv4_addr",
      own.filter(({ address }) => address !== null).map(({ port, vip, address }) => `${address} . ${port} : ${vip}`),
    ),
    ...collection(
      `set ${protocol}_held`,
      "ipv4_addr . inet_service",
      partlyHeld.map(({ port, address }) => `${address} . ${port}`),
    ),
    ...collection(
      `set ${protocol}_bound`,
      "ipv4_addr . inet_service",
      bound.map(({ port, address }) => `${address} . ${port}`),
    ),
  ];
}

function isHeld({ port, protocol }: MeshPort, held: readonly HeldPort[]): boolean {
  return held.some((other) => other.port === port && other.protocol === protocol && other.address === EVERY_ADDRESS);
}

/** Every packet that stops here is counted, with its reason. */
const drop = (reason: keyof typeof KERNEL_DROPS): string => `counter name ${KERNEL_DROPS[reason]} drop`;

function collection(name: string, type: string, elements: readonly string[]): string[] {
  return [
    `  ${name} {`,
    `    type ${type}`,
    ...(elements.length === 0 ? [] : [`    elements = { ${elements.join(", ")} }`]),
    "  }",
  ];
}

function chain(name: string, lines: readonly string[]): string[] {
  return [`  chain ${name} {`, ...lines.map((line) => `    ${line}`), "  }"];
}
