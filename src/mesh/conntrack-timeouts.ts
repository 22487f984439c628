// How long the kernel tracks connections from and to the overlay: never shorter than the flow table keeps them, whatever the
// machine's own settings are. A table of its own in nftables: the kernel takes a policy from its entries with the policy's
// table, and the mesh's is replaced with every change of a port.
import { TCP_TIMEOUT_SECONDS as TCP, UDP_TIMEOUT_SECONDS as UDP } from "../lib/flow-timeouts.ts";
import { type Cidr, formatCidr } from "../lib/ip.ts";

/**
 * By nf_conntrack's names, in seconds. It goes from FIN_WAIT to CLOSE_WAIT by any acknowledgment, and counts a UDP flow as
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

/** A whole transaction for `nft -f`. Policies are given to connections that begin: those that there are keep theirs. */
export function timeoutRuleset(name: string, pool: Cidr, device: string): string {
  const overlay = formatCidr(pool);
  const give = (match: string): string[] =>
    PROTOCOLS.map(
      (protocol) => `    ct state new ${match} meta l4proto ${protocol} ct timeout set "overlay_${protocol}"`,
    );
  return [
    `add table ip ${name}`,
    `delete table ip ${name}`,
    `table ip ${name} {`,
    ...PROTOCOLS.flatMap((protocol) => [
      `  ct timeout overlay_${protocol} {`,
      `    protocol ${protocol}`,
      "    l3proto ip",
      `    policy = { ${Object.entries(CONNTRACK_TIMEOUT_SECONDS[protocol])
        .map(([state, seconds]) => `${state} : ${seconds}`)
        .join(", ")} }`,
      "  }",
    ]),
    // Behind the translation to VIPs (priority dstnat), and before the entry is confirmed.
    "  chain incoming {",
    "    type filter hook prerouting priority dstnat + 10; policy accept;",
    ...give(`ip daddr ${overlay}`),
    ...give(`iifname "${device}" ip saddr ${overlay}`),
    "  }",
    "  chain own {",
    "    type filter hook output priority -90; policy accept;",
    ...give(`ip daddr ${overlay}`),
    "  }",
    "}",
    "",
  ].join("\n");
}
