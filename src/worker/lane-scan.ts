// The express lane's counters as the main thread takes them over: again and again, and before a listing.
// The workers have what they took over themselves in their own reports.
import { setImmediate } from "node:timers/promises";
import type { Traffic } from "../datapath/egress.ts";
import type { EngineReport } from "../datapath/engine-report.ts";
import { ExpressCounts } from "../datapath/express-counts.ts";
import type { FlowTable } from "../datapath/flow-table.ts";
import { LaneStalls } from "../datapath/lane-stalls.ts";
import { DEVICE } from "../datapath/rows.ts";
import { ExpressScan } from "../express/scan.ts";
import { type Clock, systemClock, type Timer } from "../lib/clock.ts";
import { messageOf } from "../lib/errors.ts";
import type { Cidr, Ipv4 } from "../lib/ip.ts";
import type { Log } from "../lib/log.ts";
import { PacketMemory } from "../packet/memory.ts";
import type { LaneSetup } from "./protocol.ts";

/** Below every time that a flow may be idle. */
const LONGEST_PERIOD_MS = 10_000;
const SHORTEST_PERIOD_MS = 2000;
/** A hundred times what a walk takes for each entry: it costs this thread a hundredth of its time. */
const PERIOD_MS_PER_ENTRY = 1 / 30;

interface LaneScanOptions {
  setup: LaneSetup;
  flows: FlowTable;
  /** The overlay's addresses. */
  pool: Cidr;
  log: Log;
  clock?: Clock;
}

export class LaneScan {
  readonly #scan: ExpressScan;
  readonly #counts: ExpressCounts;
  readonly #trafficByVtep = new Map<Ipv4, Traffic>(); // BOUNDED: by the peers since the last report; keyed by VTEP
  readonly stalls: LaneStalls;
  readonly #clock: Clock;
  readonly #log: Log;
  #wholeMs = Number.NEGATIVE_INFINITY;
  #walking: Promise<void> | undefined;
  #timer: Timer | undefined;
  #isClosed = false;

  constructor({ setup, flows, pool, log, clock = systemClock }: LaneScanOptions) {
    this.#counts = new ExpressCounts(flows, (from, to, packets, bytes) => this.#count(from, to, packets, bytes));
    this.stalls = new LaneStalls(flows, pool);
    this.#scan = new ExpressScan({
      ...{ flows, counts: this.#counts, map: setup.maps.flows, capacity: setup.capacity },
      onEntry: (entry, version, reading) => this.stalls.see(entry, version, reading, clock.monotonic()),
      memory: new PacketMemory(ExpressScan.memoryBytes),
    });
    this.#clock = clock;
    this.#log = log;
    void this.#walkAgainAndAgain(); // first for the entries that an agent before this one has left
  }

  /** Entries in the lane, as of the last walk. */
  get entries(): number {
    return this.#scan.entries;
  }

  /** The VTEPs that probes do not reach are these now. */
  setUnreachable(vteps: readonly Ipv4[]): void {
    this.stalls.setUnreachable(vteps, this.#clock.monotonic());
  }

  /**
   * Resolves when all counters are taken over that there were at this call, or less than `mostMs` before it. A third of a microsecond an
   * entry, in slices: this thread answers names too.
   */
  async look(mostMs = 0): Promise<void> {
    if (this.#isClosed || this.#clock.monotonic() - this.#wholeMs < mostMs) return;
    await this.#walking; // it may have passed what is asked for
    this.#walking ??= this.#walk().finally(() => {
      this.#walking = undefined;
    });
    await this.#walking;
  }

  /** The report with what was taken over here. */
  addTo(report: EngineReport): EngineReport {
    const traffic = report.traffic.map((own) => {
      const more = this.#trafficByVtep.get(own.vtep);
      return more === undefined ? own : sumOf(own, more);
    });
    const peers = new Set(report.traffic.map(({ vtep }) => vtep));
    for (const vtep of this.#trafficByVtep.keys()) if (!peers.has(vtep)) this.#trafficByVtep.delete(vtep);
    const { packets, bytes } = this.#counts;
    const { express } = report;
    return {
      ...report,
      traffic,
      express: {
        ...express,
        packets: express.packets + packets,
        bytes: express.bytes + bytes,
        entries: this.entries,
        stalled: this.stalls.stalled,
      },
    };
  }

  close(): void {
    this.#isClosed = true;
    this.#timer?.cancel();
  }

  async #walkAgainAndAgain(): Promise<void> {
    await this.look();
    if (!this.#isClosed) this.#timer = this.#clock.after(this.#periodMs(), () => void this.#walkAgainAndAgain());
  }

  #periodMs(): number {
    return Math.min(LONGEST_PERIOD_MS, Math.max(SHORTEST_PERIOD_MS, PERIOD_MS_PER_ENTRY * this.entries));
  }

  async #walk(): Promise<void> {
    const startMs = this.#clock.monotonic();
    try {
      await this.#walkOnce();
      if (this.stalls.walked(this.#clock.monotonic())) {
        this.#scan.lookAtAll();
        await this.#walkOnce();
      }
      this.#wholeMs = startMs;
    } catch (error) {
      this.#log.warn("what flows have in the express lane cannot be read", { reason: messageOf(error) });
    }
  }

  async #walkOnce(): Promise<void> {
    while (!this.#isClosed && this.#scan.step()) await setImmediate();
  }

  #count(from: Ipv4, to: Ipv4, packets: number, bytes: number): void {
    if (from !== DEVICE) {
      const traffic = this.#trafficOf(from);
      traffic.rxPackets += packets;
      traffic.rxBytes += bytes;
    }
    if (to !== DEVICE) {
      const traffic = this.#trafficOf(to);
      traffic.txPackets += packets;
      traffic.txBytes += bytes;
    }
  }

  #trafficOf(vtep: Ipv4): Traffic {
    let traffic = this.#trafficByVtep.get(vtep);
    if (traffic === undefined) {
      traffic = { rxPackets: 0, txPackets: 0, rxBytes: 0, txBytes: 0 };
      this.#trafficByVtep.set(vtep, traffic);
    }
    return traffic;
  }
}

function sumOf<T extends Traffic>(own: T, more: Traffic): T {
  return {
    ...own,
    rxPackets: own.rxPackets + more.rxPackets,
    txPackets: own.txPackets + more.txPackets,
    rxBytes: own.rxBytes + more.rxBytes,
    txBytes: own.txBytes + more.txBytes,
  };
}
