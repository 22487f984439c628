// On which link a packet goes out: that of a container of this node, that of the route to a peer, or that of the route to a client outside.
// The kernel is asked once for each, until what it has said is lost.
import { type Ipv4, OUTSIDE } from "../lib/ip.ts";
import { ifindexOf } from "../linux/interfaces.ts";
import { RouteQuery } from "../linux/route-query.ts";
import type { PacketMemory } from "../packet/memory.ts";
import { type ClientWay, ClientWays, NO_CLIENT } from "./client-ways.ts";

/** With more addresses than this, all are asked for again. */
const MOST_LINKS = 65_536;

export class Ways {
  /** What toClient() has found last. */
  client: ClientWay = NO_CLIENT;
  readonly #nameOf: (address: Ipv4) => string;
  readonly #routes: RouteQuery;
  readonly #links = new Map<Ipv4, number>(); // BOUNDED: MOST_LINKS; keyed by a container's address, or a VTEP
  readonly #clients: ClientWays;

  /** `nameOf` names the host's end of a container's link. Throws SyscallError. */
  constructor(memory: PacketMemory, nameOf: (address: Ipv4) => string) {
    this.#nameOf = nameOf;
    this.#routes = new RouteQuery(memory);
    this.#clients = new ClientWays(this.#routes);
  }

  /** The index of the link of a container of this node; 0: it has none. */
  toContainer(address: Ipv4): number {
    return this.#links.get(address) ?? this.#keep(address, ifindexOf(this.#nameOf(address)) ?? 0);
  }

  /** The index of the link that leads to a peer; 0: none does. */
  toPeer(vtep: Ipv4): number {
    return this.#links.get(vtep) ?? this.#keep(vtep, this.#routes.linkTo(vtep));
  }

  /** The index of the link by which this node's address `own` answers a client; 0: none, or one that the lane does not send by. */
  toClient(address: Ipv4, own: Ipv4): number {
    this.client = this.#clients.find(address, own);
    return this.client.link;
  }

  /** OUTSIDE: the ways to all clients. */
  forget(address: Ipv4): void {
    if (address === OUTSIDE) this.#clients.forget();
    else this.#links.delete(address);
  }

  forgetAll(): void {
    this.#links.clear();
    this.#clients.forget();
  }

  #keep(address: Ipv4, link: number): number {
    if (link === 0) return 0;
    if (this.#links.size === MOST_LINKS) this.#links.clear();
    this.#links.set(address, link);
    return link;
  }

  close(): void {
    this.#routes.close();
  }
}
