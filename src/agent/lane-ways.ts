// Follows the links and routes by which peers are reached, for the express lane: its entries name links, and its program is on the link
// that has the node's address. `ip monitor` tells of changed features of links too.
import type { Clock } from "../lib/clock.ts";
import { type Ipv4, OUTSIDE } from "../lib/ip.ts";
import { linkAddresses } from "../lib/link-addresses.ts";
import type { Log } from "../lib/log.ts";
import { type Watch, watchOutput } from "../lib/watch-output.ts";
import { isOurs } from "../links/watch.ts";
import { ifindexOf } from "../linux/interfaces.ts";
import { RouteQuery } from "../linux/route-query.ts";
import { PacketMemory } from "../packet/memory.ts";
import { type EntranceLinks, entranceLinks } from "./lane-entrances.ts";

const MEMORY_BYTES = 65_536;

interface UnderlayLink {
  name: string;
  index: number;
}

interface LaneWaysOptions {
  log: Log;
  clock: Clock;
  /** This node's VTEP. */
  address: string;
  /** The TUN's name. */
  device: string;
  /** The VTEPs of the other nodes, now. */
  peers(): readonly Ipv4[];
  /** Takes the link that has the node's address; undefined: none has. */
  onUnderlay(link: UnderlayLink | undefined): void;
  /** Takes the links by which clients come, and the TUN's index. */
  onEntrances(links: EntranceLinks, device: number | undefined): void;
  /** Takes the peers that are reached by another link than before, or have been looked at for the first time; and OUTSIDE. */
  onMoved(vteps: readonly Ipv4[]): void;
}

export class LaneWays {
  readonly #options: LaneWaysOptions;
  readonly #routes = new RouteQuery(new PacketMemory(MEMORY_BYTES));
  #links: ReadonlyMap<Ipv4, number> = new Map(); // BOUNDED: by the peers
  readonly #watch: Watch;

  /** Throws SyscallError when the kernel cannot be asked for routes. */
  constructor(options: LaneWaysOptions) {
    this.#options = options;
    const { log, clock, device } = options;
    this.#watch = watchOutput({
      ...{ log, clock, onChange: () => this.look() },
      monitors: [["ip", "-4", "monitor", "link", "address", "route", "rule"]],
      what: "the ways to peers",
      isOurs: (line) => !isOurs(line, device),
    });
    this.look();
  }

  /** Loops over all peers, at each burst of changes of the node's links and routes: three system calls each. */
  look(): void {
    const { peers, device, onUnderlay, onEntrances, onMoved } = this.#options;
    onUnderlay(underlayLink(this.#options.address));
    onEntrances(entranceLinks(device), ifindexOf(device));
    const before = this.#links;
    this.#links = new Map(peers().map((vtep) => [vtep, this.#routes.linkTo(vtep)]));
    const moved = [...this.#links].filter(([vtep, link]) => before.get(vtep) !== link).map(([vtep]) => vtep);
    onMoved([...moved, OUTSIDE]); // which clients there are, no route says
  }

  stop(): void {
    this.#watch.close();
    this.#routes.close();
  }
}

/** The running link that has the address. */
function underlayLink(address: string): UnderlayLink | undefined {
  const name = linkAddresses().find((own) => own.address === address)?.link;
  const index = name === undefined ? undefined : ifindexOf(name);
  return name === undefined || index === undefined ? undefined : { name, index };
}
