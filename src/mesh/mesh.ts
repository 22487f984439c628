// The routing mesh's entrance, as a node wants it: what arrives for a published port at any of the node's addresses goes
// to the service's mesh VIP, which the data path balances. nftables-mesh.ts puts it in force.
import type { Protocol } from "../cluster/schema.ts";
import type { Cidr } from "../lib/ip.ts";

export interface MeshPort {
  readonly protocol: Protocol;
  readonly port: number;
  /** Where it leads, at the same port. */
  readonly vip: string;
  /** The address of this node on which it answers; null: all of them. */
  readonly address: string | null;
  /** Whether the port is answered on links that do not have that address: the address is on `lo`, or it is null. */
  readonly onEveryLink: boolean;
}

export interface DesiredMesh {
  readonly pool: Cidr;
  /** The TUN. */
  readonly device: string;
  /** What the names of containers' host ends begin with. Nothing that comes in by them may pass. */
  readonly vethPrefix: string;
  /** The UDP ports on which the nodes receive the overlay's packets, clear or sealed; this one's are among them. */
  readonly tunnelPorts: readonly number[];
  readonly ingressAddress: string | null;
  /** Subnets of networks without a way out. */
  readonly internal: readonly Cidr[];
  readonly ports: readonly MeshPort[];
  /** The addresses that reach this node's part of the managers' store; null: it is no manager, and has none. */
  readonly storePeers: readonly string[] | null;
}
