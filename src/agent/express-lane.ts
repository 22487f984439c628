// This node's express lane, as long as the agent runs: the maps and programs in the kernel, the interfaces that the programs are on, and
// the lease that each second is made a minute. What an agent before has left pinned is taken over, so that flows go on in between.
import { Entrances } from "../express/entrances.ts";
import { endPinnedHooks, type HookKind, Hooks } from "../express/hooks.ts";
import { ENTRANCES_SHAPE, Origin } from "../express/layout.ts";
import { loadPrograms } from "../express/load-programs.ts";
import { type OpenedMaps, openLaneMaps } from "../express/open-maps.ts";
import type { Clock, Timer } from "../lib/clock.ts";
import { messageOf, PlatformError, UserError } from "../lib/errors.ts";
import { type Cidr, type Ipv4, ipv4 } from "../lib/ip.ts";
import type { Log } from "../lib/log.ts";
import { addressOfVeth } from "../links/desired.ts";
import { describeMap } from "../linux/bpf-objects.ts";
import { whatBpfLacks } from "../linux/bpf-probe.ts";
import { openBpffs, pinsIn, removeBpffs } from "../linux/bpffs.ts";
import { SyscallError } from "../linux/libc.ts";
import type { LaneSetup } from "../worker/protocol.ts";
import { type EntranceLinks, entrancesOf, linkOfAddress, type Published } from "./lane-entrances.ts";
import type { LaneStatus } from "./peer-views.ts";

const LEASE_NANOSECONDS = 60_000_000_000n;
const RENEW_MS = 1000;

/** The lane as a person sees and switches it. */
export interface NodeLane extends LaneStatus {
  /** Turns it on or off while the agent runs. On: also for peers whose flows stalled. Throws UserError where there is none to turn on. */
  turn(isOn: boolean): void;
  /** Leads what clients outside send to these ports to the agent, past the kernel's tracking of connections. */
  publish(published: Published): void;
  /** Its counters for `overlayctl stats`. */
  counters(): Record<string, number>;
}

/** The agent's own path carries every packet, `why`: a sentence without its full stop. */
export function absentLane(word: "disabled" | "unavailable", why: string): NodeLane {
  return {
    whyOff: () => word,
    goesByLink: false,
    turn: (isOn) => {
      if (isOn) throw new UserError(409, `this node has no express lane: ${why}`);
    },
    publish: () => {}, // nftables lead them
    counters: () => ({}),
  };
}

interface ExpressLaneOptions {
  /** Where the bpf file system is, or will be. */
  directory: string;
  /** Entries that the map of flows takes. */
  entries: number;
  /** Where VXLAN arrives. */
  port: number;
  pool: Cidr;
  clock: Clock;
  log: Log;
}

/** Opens the lane; returns why there is none, as a sentence without its full stop, where the machine has not what it takes. */
export function openExpressLane(options: ExpressLaneOptions): ExpressLane | string {
  const lack = whatBpfLacks();
  if (lack !== undefined) {
    endPinnedHooks(pinsIn(options.directory)); // of an agent that lacked nothing: this one could not govern them
    return lack;
  }
  const pins = openPins(options);
  try {
    return new ExpressLane(options, pins);
  } catch (error) {
    if (!(error instanceof SyscallError)) throw error;
    if (pins !== undefined) endPinnedHooks(pins); // this agent would not know what they carry
    return messageOf(error);
  }
}

/** As removeExpressLane(), for an agent without a lane, which may lack the capability to unmount: what is left then carries nothing. */
export function clearExpressLane(directory: string, log: Log): void {
  try {
    removeExpressLane(directory);
  } catch (error) {
    if (!(error instanceof SyscallError)) throw error;
    log.warn("the express lane's file system stays mounted, without pins", { reason: messageOf(error) });
  }
}

/** Takes away what agents have left in the kernel. Throws SyscallError when the file system cannot be unmounted, after all else. */
export function removeExpressLane(directory: string): void {
  endPinnedHooks(pinsIn(directory));
  removeBpffs(directory);
}

export class ExpressLane implements NodeLane {
  readonly #options: ExpressLaneOptions;
  readonly #opened: OpenedMaps;
  readonly #hooks: Hooks;
  readonly #entrances: Entrances;
  /** undefined: what the agent before has published stays. */
  #published: Published | undefined;
  /** The published ports and addresses that found no room. */
  #left = 0;
  /** The links by which nftables lead clients, as the log has named them last. */
  #strict = "";
  /** The index of each container's link, by its name. BOUNDED: by this node's containers. */
  #containers: ReadonlyMap<string, number> = new Map();
  #lease: Timer | undefined;
  #isOn = true;
  /** Called with containers whose link is another one than before. */
  onMoved: (addresses: readonly Ipv4[]) => void = () => {};
  /** The VTEPs whose flows stalled in the lane, and go by the agent. */
  stalled: ReadonlySet<Ipv4> = new Set(); // BOUNDED: by the peers
  /** Called when flows of all peers may enter again. */
  onRetry: () => void = () => {};

  /** Throws SyscallError when the kernel refuses a map or a program. */
  constructor(options: ExpressLaneOptions, pins: string | undefined) {
    this.#options = options;
    this.#opened = openLaneMaps(options.entries, pins);
    try {
      if (pins !== undefined && !this.#opened.areAdopted) endPinnedHooks(pins); // their programs have other maps
      this.#hooks = new Hooks(loadPrograms(this.#opened.maps, options), pins);
      this.#entrances = new Entrances(this.#opened.maps.entrances);
    } catch (error) {
      this.#opened.close();
      throw error;
    }
    const { discarded } = this.#opened;
    if (discarded !== undefined) {
      options.log.info("flows of the agent before leave the express lane, and enter it again one by one", {
        reason: discarded === "layout" ? "its entries are of another version" : "its maps have another size",
      });
    }
    this.#renew();
    this.#opened.control.turn(true);
  }

  /** What the data path's workers need of it. */
  get setup(): LaneSetup {
    return { maps: this.#opened.maps, capacity: this.#options.entries, isAdopted: this.isAdopted };
  }

  /** Whether flows of the agent before are in it. */
  get isAdopted(): boolean {
    return this.#opened.areAdopted;
  }

  /** The host's ends of containers' links, by name, are these now. What was written for other links is void before a program is on these. */
  setContainers(links: ReadonlyMap<string, number>): void {
    const others = [...this.#containers].filter(([name, index]) => links.get(name) !== index);
    const moved = others.map(([name]) => addressOfVeth(name));
    this.#containers = new Map(links);
    for (const address of moved) this.#opened.lose(address);
    this.#keep("container", [...links.values()]);
    if (moved.length > 0) this.onMoved(moved);
  }

  /** Peers' packets come in by the interface with this index; undefined: by none. */
  setUnderlay(index: number | undefined): void {
    this.#keep("underlay", index === undefined ? [] : [index]);
  }

  /** Clients come in by these links of the node, and the TUN has the index `device`; undefined: there is none. */
  setEntrances({ led, strict }: EntranceLinks, device: number | undefined): void {
    this.#opened.control.leadTo(device ?? 0);
    this.#putEntrances();
    this.#keep("node", [...led.values()]);
    const names = strict.join(", ");
    if (names !== this.#strict && names !== "") {
      const reason = "rp_filter is 1 there; with 0 or 2 the express lane leads them";
      this.#options.log.info(`clients of published ports that come by ${names} are led by nftables`, { reason });
    }
    this.#strict = names;
  }

  publish(published: Published): void {
    this.#published = published;
    this.#putEntrances();
  }

  /** A port that is not in the map is nftables' to lead. */
  #putEntrances(): void {
    if (this.#published === undefined) return;
    try {
      const left = this.#entrances.put(entrancesOf(this.#published, linkOfAddress));
      if (left > 0 && this.#left === 0) {
        this.#options.log.warn(
          `nftables lead clients of ${left} published ports: the express lane has no room for these`,
          {
            reason: `its map of ports and of the node's addresses has ${ENTRANCES_SHAPE.entries} entries`,
          },
        );
      }
      this.#left = left;
    } catch (error) {
      if (!(error instanceof SyscallError)) throw error;
      this.#options.log.warn("the express lane does not lead all published ports as they are now", {
        reason: messageOf(error),
      });
    }
  }

  /** Whether segments that come singly from peers go by the containers' links, which are to join them. */
  get goesByLink(): boolean {
    return this.#opened.control.goesByLink;
  }

  /** What goesByLink says, from now on. */
  goByLink(byLink: boolean): void {
    this.#opened.control.goByLink(byLink);
  }

  whyOff(address: string): string | null {
    if (!this.#isOn) return "switched-off";
    return this.stalled.has(ipv4(address)) ? "stalled" : null;
  }

  turn(isOn: boolean): void {
    if (isOn) this.onRetry();
    if (isOn === this.#isOn) return;
    this.#isOn = isOn;
    this.#opened.control.turn(isOn);
    this.#options.log.info(isOn ? "flows enter the express lane again" : "flows leave the express lane");
  }

  counters(): Record<string, number> {
    const { control, maps } = this.#opened;
    const passedOn = (origin: Origin, prefix: string): Record<string, number> => {
      const counts = [...control.allPassedOn(origin)];
      return Object.fromEntries(counts.map(([reason, count]) => [`${prefix}${reason}`, count]));
    };
    return {
      laneCapacity: this.#options.entries,
      laneMemoryBytes: Object.values(maps).reduce((sum: number, fd: number) => sum + describeMap(fd).memoryBytes, 0),
      laneLinks: this.#hooks.count,
      laneEntrances: this.#entrances.size,
      laneEntrancesLeft: this.#left,
      ...passedOn(Origin.Container, "laneFromContainer"),
      ...passedOn(Origin.Underlay, "laneFromUnderlay"),
      ...passedOn(Origin.Node, "laneFromNode"),
    };
  }

  /** The agent carries every packet from now on, though the machine has what the lane takes: nothing that is in it is ever used again. */
  abandon(): void {
    this.#lease?.cancel();
    this.#opened.control.turn(false);
    this.#opened.loseAll();
    this.setContainers(new Map());
    this.setUnderlay(undefined);
  }

  /** What is pinned stays, and carries flows until the lease is over. */
  stop(): void {
    this.#lease?.cancel();
    this.#hooks.close();
    this.#opened.close();
  }

  #renew(): void {
    this.#opened.control.lease(process.hrtime.bigint() + LEASE_NANOSECONDS);
    this.#lease = this.#options.clock.after(RENEW_MS, () => this.#renew());
  }

  /** Packets of an interface without a program go the agent's way. */
  #keep(kind: HookKind, indexes: readonly number[]): void {
    try {
      this.#hooks.keep(kind, new Set(indexes));
    } catch (error) {
      this.#options.log.warn(`the express lane has no program on a link (${kind})`, { reason: messageOf(error) });
    }
  }
}

/** undefined: nothing can be pinned, and the lane ends with this process. */
function openPins({ directory, log }: ExpressLaneOptions): string | undefined {
  try {
    return openBpffs(directory).pins;
  } catch (error) {
    if (!(error instanceof PlatformError)) throw error;
    log.warn(`flows leave the express lane while no agent runs: ${error.mend}`, { reason: error.message });
    return undefined;
  }
}
