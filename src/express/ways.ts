// On which link a packet goes out: that of a container of this node, or that of the route to a peer. The kernel is asked once for
// each, until what it has said is lost.
import type { Ipv4 } from "../lib/ip.ts";
import { ifindexOf } from "../linux/interfaces.ts";
import { RouteQuery } from "../linux/route-query.ts";
import type { PacketMemory } from "../packet/memory.ts";

/** With more addresses than this, all are asked for again. */
const MOST_LINKS = 65_536;

export class Ways {
  readonly #nameOf: (address: Ipv4) => string;
  readonly #routes: RouteQuery;
  readonly #links = new Map<Ipv4, number>(); // BOUNDED: MOST_LINKS; keyed by a container's address, or a VTEP

  /** `nameOf` names the host's end of a container's link. Throws SyscallError. */
  constructor(memory: PacketMemory, nameOf: (address: Ipv4) => string) {
    this.#nameOf = nameOf;
    this.#routes = new RouteQuery(memory);
  }

  /** The index of the link of a container of this node; 0: it has none. */
  toContainer(address: Ipv4): number {
    return this.#links.get(address) ?? this.#keep(address, ifindexOf(this.#nameOf(address)) ?? 0);
  }

  /** The index of the link that leads to a peer; 0: none does. */
  toPeer(vtep: Ipv4): number {
    return this.#links.get(vtep) ?? this.#keep(vtep, this.#routes.linkTo(vtep));
  }

  forget(address: Ipv4): void {
    this.#links.delete(address);
  }

  forgetAll(): void {
    this.#links.clear();
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
