// How long the kernel tracks connections from and to the overlay: never shorter than the flow table keeps them, whatever the
// machine's own settings are. A table of its own in nftables: the kernel takes a policy from its entries when the policy goes,
// and the mesh's table is replaced with every change of a port.
import { createHash } from "node:crypto";
import { TCP_TIMEOUT_SECONDS as TCP, UDP_TIMEOUT_SECONDS as UDP } from "../lib/flow-timeouts.ts";
import { type Cidr, formatCidr } from "../lib/ip.ts";

/**
 * Time-outs by nf_conntrack's names, in seconds. It goes from FIN_WAIT to CLOSE_WAIT by any acknowledgment, and counts a UDP flow as
 * unreplied for its first two seconds, so that these two stand for two states of the flow table each. `retrans` and `unack`
 * replace the time of any state while data is repeated or waits for its acknowledgment.
 */
export const CONNTRACK_TIMEOUT_SECONDS = {
  tcp: {
    syn_sent: TCP.SynSent,
    syn_recv: TCP.SynReceived,
    established: TCP.Established,
    fin_wait: TCP.FinWait,
    close_wait: Math.max(TCP.FinWait, TCP.CloseWait),
    last_ack: TCP.LastAck,
    time_wait: TCP.TimeWait,
    close: TCP.Closed,
    retrans: Math.max(...Object.values(TCP)),
    unack: Math.max(...Object.values(TCP)),
  },
  udp: { unreplied: Math.max(UDP.Unreplied, UDP.Replied), replied: UDP.Replied },
} as const;

const PROTOCOLS = ["tcp", "udp"] as const;
type TrackedProtocol = (typeof PROTOCOLS)[number];

/**
 * A whole transaction for `nft -f`. Policies are given to connections that begin: those that there are keep theirs. It deletes no
 * policy, and names each by what it says: put again by an agent that starts, the policies and what they were given to stay.
 */
export function timeoutRuleset(name: string, pool: Cidr, device: string): string {
  const overlay = formatCidr(pool);
  const give = (match: string): string[] =>
    PROTOCOLS.map(
      (protocol) => `ct state new ${match} meta l4proto ${protocol} ct timeout set "${policyName(protocol)}"`,
    );
  return [
    `add table ip ${name}`,
    `table ip ${name} {`,
    ...PROTOCOLS.flatMap((protocol) => [
      `  ct timeout ${policyName(protocol)} {`,
      `    protocol ${protocol}`,
      "    l3proto ip",
      `    policy = { ${policy(protocol)} }`,
      "  }",
    ]),
    "}",
    // Behind the translation to VIPs (priority dstnat), and before the entry is confirmed.
    ...chain(name, "incoming", "hook prerouting priority dstnat + 10", [
      ...give(`ip daddr ${overlay}`),
      ...give(`iifname "${device}" ip saddr ${overlay}`),
    ]),
    ...chain(name, "own", "hook output priority -90", give(`ip daddr ${overlay}`)),
    "",
  ].join("\n");
}

function chain(table: string, name: string, hook: string, rules: readonly string[]): string[] {
  return [
    `add chain ip ${table} ${name} { type filter ${hook}; policy accept; }`,
    `flush chain ip ${table} ${name}`,
    ...rules.map((rule) => `add rule ip ${table} ${name} ${rule}`),
  ];
}

function policy(protocol: TrackedProtocol): string {
  return Object.entries(CONNTRACK_TIMEOUT_SECONDS[protocol])
    .map(([state, seconds]) => `${state} : ${seconds}`)
    .join(", ");
}

function policyName(protocol: TrackedProtocol): string {
  return `${protocol}_${createHash("sha256").update(policy(protocol)).digest("hex").slice(0, 8)}`;
}
