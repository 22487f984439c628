// What this node says of itself to managers, and where its own manager answers.
import type { NodeIdentity } from "../cluster/protocol.ts";
import type { Node } from "../cluster/schema.ts";
import { EVERY_ADDRESS } from "../lib/ip.ts";
import { linkAddresses } from "../lib/link-addresses.ts";
import type { SessionAddress } from "./compile-denied.ts";
import type { Config } from "./config.ts";

const CLUSTER_PORT = 2377;

/** Where a manager answers, and where others are to reach it if not there. */
interface ManagerAddress {
  listen: SessionAddress;
  advertise: SessionAddress | null;
}

/** As a person gave them with `init` or `join`; the configuration goes before. */
interface GivenAddresses {
  listen: SessionAddress | null;
  advertise: SessionAddress | null;
}

/** `address` is the node's own. */
export function managerAddressOf({ cluster }: Config, given: GivenAddresses, address: string): ManagerAddress {
  const advertise = asSession(cluster.advertise) ?? given.advertise;
  const listen = asSession(cluster.listen) ?? given.listen ?? listenFor(advertise, address);
  const isSame = advertise?.address === listen.address && advertise.port === listen.port;
  return { listen, advertise: isSame ? null : advertise };
}

/** What a person may have given, as far as the row of the node's manager shows: the address without a word is none. */
export function givenAddressesOf({ address, listen, advertise }: Node): GivenAddresses {
  const isDefault = listen?.address === address && listen.port === CLUSTER_PORT;
  return { listen: isDefault ? null : listen, advertise };
}

/** HOST:PORT at which others reach the manager. */
export function reachedAt({ listen, advertise }: ManagerAddress, address: string): string {
  const { address: host, port } = advertise ?? listen;
  return `${host === EVERY_ADDRESS ? address : host}:${port}`;
}

/** What managers are told of this node. A worker has no address of a manager; `sealed` is known once the node is a member. */
export function nodeIdentityOf(
  config: Config,
  address: string,
  manager: ManagerAddress | undefined,
  sealed: NodeIdentity["sealed"] = null,
): NodeIdentity {
  const { node, vxlan, mesh } = config;
  return {
    ...{ name: node.name, address, vxlanPort: vxlan.port, sealed, mesh },
    manager: manager !== undefined,
    listen: manager?.listen ?? null,
    advertise: manager?.advertise ?? null,
  };
}

/** The advertised address where that is one of this machine's own links, else the node's address. */
function listenFor(advertise: SessionAddress | null, address: string): SessionAddress {
  const isOwn = linkAddresses().some((own) => own.address === advertise?.address);
  return { address: isOwn ? advertise!.address : address, port: CLUSTER_PORT };
}

export function asSession(given: { host: string; port: number } | undefined): SessionAddress | null {
  return given === undefined ? null : { address: given.host, port: given.port };
}
