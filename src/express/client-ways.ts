// The links by which clients outside are answered, as the kernel routes what comes from an address of this node.
import type { Ipv4 } from "../lib/ip.ts";
import { isEthernet, mtuOf, nameOfLink } from "../linux/interfaces.ts";
import { SyscallError } from "../linux/libc.ts";
import { withLinkFeatures } from "../linux/link-features.ts";
import type { RouteQuery } from "../linux/route-query.ts";

/** With more clients than this, all are asked for again. */
const MOST_CLIENTS = 65_536;
/** A link with it has a card that cuts super-packets in tunnels: the mark of a tunnel tells it where the headers are. */
const CUTS_TUNNELS = "tx-udp_tnl-segmentation";
const VIRTUAL = "veth";
const NO_MTU = 65_535;

export interface ClientWay {
  /** The link's index; 0: there is none by which the lane sends. */
  readonly link: number;
  readonly mtu: number;
  readonly heedsTunnelMark: boolean;
}

/** There is no way by which the lane sends. */
export const NO_CLIENT: ClientWay = { link: 0, mtu: NO_MTU, heedsTunnelMark: false };

type Routes = Pick<RouteQuery, "linkTo" | "isByRouter" | "mtu">;

interface LinkFacts {
  readonly mtu: number;
  readonly isVirtual: boolean;
  readonly cutsTunnels: boolean;
}

export class ClientWays {
  readonly #routes: Routes;
  readonly #factsOf: (link: number) => LinkFacts | undefined;
  /** BOUNDED: MOST_CLIENTS in all; keyed by the address of this node, then by the client's. */
  readonly #ways = new Map<Ipv4, Map<Ipv4, ClientWay>>();
  #count = 0;
  readonly #links = new Map<number, LinkFacts | undefined>(); // BOUNDED: by the node's links

  /** `factsOf` says what a link is; undefined: none with Ethernet frames. */
  constructor(routes: Routes, factsOf = linkFacts) {
    this.#routes = routes;
    this.#factsOf = factsOf;
  }

  find(client: Ipv4, own: Ipv4): ClientWay {
    return this.#ways.get(own)?.get(client) ?? this.#keep(client, own, this.#ask(client, own));
  }

  forget(): void {
    this.#ways.clear();
    this.#links.clear();
    this.#count = 0;
  }

  /**
   * What has come through a tunnel keeps a mark of it, which the program cannot take away. A link of this machine does not mind it, nor does
   * who is at its other end. A router there may send it on by a card that does, so that such clients are the agent's.
   */
  #ask(client: Ipv4, own: Ipv4): ClientWay {
    const link = this.#routes.linkTo(client, own);
    const { isByRouter, mtu } = this.#routes;
    if (link === 0) return NO_CLIENT;
    if (!this.#links.has(link)) this.#links.set(link, this.#factsOf(link));
    const facts = this.#links.get(link);
    if (facts === undefined || (facts.isVirtual && isByRouter)) return NO_CLIENT;
    const heedsTunnelMark = facts.cutsTunnels && !facts.isVirtual;
    return { link, mtu: mtu === 0 ? facts.mtu : mtu, heedsTunnelMark };
  }

  #keep(client: Ipv4, own: Ipv4, way: ClientWay): ClientWay {
    if (this.#count === MOST_CLIENTS) this.forget();
    let ways = this.#ways.get(own);
    if (ways === undefined) {
      ways = new Map();
      this.#ways.set(own, ways);
    }
    ways.set(client, way);
    this.#count++;
    return way;
  }
}

function linkFacts(link: number): LinkFacts | undefined {
  const name = nameOfLink(link);
  if (name === undefined || !isEthernet(name)) return undefined;
  try {
    return withLinkFeatures(undefined, (features) => ({
      mtu: mtuOf(name) ?? NO_MTU,
      isVirtual: features.driver(name) === VIRTUAL,
      cutsTunnels: features.active(name).has(CUTS_TUNNELS),
    }));
  } catch (error) {
    if (!(error instanceof SyscallError)) throw error;
    return undefined; // it has gone meanwhile, or says nothing of itself
  }
}
