// The nftables table, as text: ports to mesh VIPs, the way out for containers, and guards. LAB.md says why each line is.
import { formatCidr } from "../lib/ip.ts";
import type { DesiredMesh, MeshPort } from "./mesh.ts";

/** A whole transaction for `nft -f`: replaces what the table held. `name` is the table's. */
export function ruleset(name: string, desired: DesiredMesh): string {
  const { device, vethPrefix, ingressAddress, internal } = desired;
  const pool = formatCidr(desired.pool);
  const tun = `"${device}"`;
  const toPorts = (["tcp", "udp"] as const).map(
    (protocol) => `ip daddr != ${pool} fib daddr type local dnat to ${protocol} dport map @${protocol}_ports`,
  );
  return [
    `add table ip ${name}`,
    `delete table ip ${name}`,
    `table ip ${name} {`,
    ...map("tcp_ports", desired.ports, "tcp"),
    ...map("udp_ports", desired.ports, "udp"),
    ...chain("raw", "type filter hook prerouting priority raw; policy accept;", [
      // Only the filter's redirection leads out of a container; what is left over on its link stops here.
      `iifname "${vethPrefix}*" drop`,
      // Overlay addresses come out of the TUN, or from the node itself.
      `iifname != { "lo", ${tun} } ip saddr ${pool} drop`,
      ...(internal.length === 0
        ? []
        : [`iifname ${tun} ip saddr { ${internal.map(formatCidr).join(", ")} } ip daddr != ${pool} drop`]),
      // The data path tracks these; a second entry here would call half of each local flow invalid.
      `iifname ${tun} ip daddr ${pool} fib daddr type != local notrack`,
    ]),
    ...chain("prerouting", "type nat hook prerouting priority dstnat; policy accept;", toPorts),
    ...chain("output", "type nat hook output priority -100; policy accept;", toPorts),
    ...chain("postrouting", "type nat hook postrouting priority srcnat; policy accept;", [
      `iifname ${tun} ip saddr ${pool} ip daddr != ${pool} oifname != ${tun} masquerade`,
      ...(ingressAddress === null ? [] : [`oifname ${tun} ip saddr 127.0.0.0/8 snat to ${ingressAddress}`]),
    ]),
    "}",
    "",
  ].join("\n");
}

function map(name: string, ports: readonly MeshPort[], protocol: MeshPort["protocol"]): string[] {
  const elements = ports
    .filter((port) => port.protocol === protocol)
    .sort((a, b) => a.port - b.port)
    .map(({ port, meshVip }) => `${port} : ${meshVip}`);
  return [
    `  map ${name} {`,
    "    type inet_service : ipv4_addr",
    ...(elements.length === 0 ? [] : [`    elements = { ${elements.join(", ")} }`]),
    "  }",
  ];
}

function chain(name: string, hook: string, rules: readonly string[]): string[] {
  return [`  chain ${name} {`, `    ${hook}`, ...rules.map((rule) => `    ${rule}`), "  }"];
}
