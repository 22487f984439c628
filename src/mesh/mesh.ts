// The routing mesh's entrance: what arrives for a published port at any of the node's addresses goes to the service's
// mesh VIP, which the data path balances.
import type { HeldPort, Protocol } from "../cluster/schema.ts";
import type { Clock } from "../lib/clock.ts";
import { CommandError, run } from "../lib/command.ts";
import { messageOf, PlatformError } from "../lib/errors.ts";
import type { Cidr } from "../lib/ip.ts";
import type { Log } from "../lib/log.ts";
import { NftablesMesh } from "./nftables-mesh.ts";
import { ProxyMesh } from "./proxy-mesh.ts";

export interface MeshPort {
  readonly protocol: Protocol;
  readonly port: number;
  /** Where it leads, at the same port. */
  readonly vip: string;
  /** Of this node, on which it answers; null: all. */
  readonly address: string | null;
  /** Whether a relay tells the task who the client is. */
  readonly proxyProtocol: boolean;
}

export interface DesiredMesh {
  readonly pool: Cidr;
  /** The TUN. */
  readonly device: string;
  /** Containers' host ends: what their names begin with. Nothing that comes in by them may pass. */
  readonly vethPrefix: string;
  /** On which the nodes receive VXLAN, this one among them. */
  readonly vxlanPorts: readonly number[];
  readonly ingressAddress: string | null;
  /** Of the node itself, loopback's first one among them. */
  readonly addresses: readonly string[];
  /** Subnets of networks without a way out. */
  readonly internal: readonly Cidr[];
  readonly ports: readonly MeshPort[];
}

export interface Mesh {
  readonly kind: "nftables" | "proxy";
  /** What it did not carry itself, by reason: counters that only rise. */
  readonly drops: Readonly<Record<string, number>>;
  /**
   * Makes it so, all at once, but for ports that processes of this node have: those are the answer. Doing it again costs
   * little, and puts back what somebody removed.
   */
  apply(desired: DesiredMesh): Promise<HeldPort[]>;
  /** From now on puts back at once what somebody removes. */
  watch(): void;
  /** Looks after nothing any more; what is in force stays where it can. */
  close(): Promise<void>;
  remove(): Promise<void>;
}

export interface MeshOptions {
  log: Log;
  clock: Clock;
  /** The nftables table's name. */
  table?: string;
}

/** Through nftables where the machine has it; else by relaying in this process, and the log says what that costs. */
export async function createMesh({ log, clock, table = "overlayd" }: MeshOptions): Promise<Mesh> {
  try {
    await run(["nft", "list", "tables"]);
    return new NftablesMesh({ log, clock, table });
  } catch (error) {
    if (!(error instanceof PlatformError || error instanceof CommandError)) throw error;
    log.warn(
      "nftables cannot be used: published ports are relayed by overlayd, tasks see the node and not the client's " +
        "address, and containers reach nothing outside the overlay. Install nftables and restart overlayd",
      { reason: messageOf(error) },
    );
    return new ProxyMesh({ log, clock });
  }
}
