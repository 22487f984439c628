// The routing mesh in the kernel: one table, replaced in one transaction, looked after between changes.
import { isDeepStrictEqual } from "node:util";
import type { HeldPort, Protocol } from "../cluster/schema.ts";
import type { Clock } from "../lib/clock.ts";
import { messageOf } from "../lib/errors.ts";
import type { Log } from "../lib/log.ts";
import { Turns } from "../lib/turns.ts";
import { type Watch, watchOutput } from "../lib/watch-output.ts";
import { conntrackDrops, endStaleTcpFlows, endUdpFlows } from "./conntrack.ts";
import { timeoutRuleset } from "./conntrack-timeouts.ts";
import { HeldPorts } from "./held-ports.ts";
import { KeptTable, nft } from "./kept-table.ts";
import { addDrops, type DropCounts, KERNEL_DROPS } from "./kernel-drops.ts";
import type { DesiredMesh, MeshPort } from "./mesh.ts";
import { ruleset } from "./nftables.ts";

interface Applied {
  desired: DesiredMesh;
  held: readonly HeldPort[];
}

interface NftablesMeshOptions {
  log: Log;
  clock: Clock;
  /** The table's name. */
  table?: string;
}

export class NftablesMesh {
  readonly #log: Log;
  readonly #clock: Clock;
  readonly #table: KeptTable;
  /** Never deleted while it is wanted: connections would lose their time-outs with it. */
  readonly #timeouts: KeptTable;
  readonly #held = new HeldPorts();
  /** What was put last. */
  #applied: Applied | undefined;
  /** Whether nothing else was tried since. */
  #isApplied = false;
  readonly #turns = new Turns();
  #watch: Watch | undefined;
  #hasWarned = false;
  /** What tables before this one have stopped: their counters went with them. */
  #dropped: DropCounts = {};

  constructor({ log, clock, table = "overlayd" }: NftablesMeshOptions) {
    this.#log = log;
    this.#clock = clock;
    this.#table = new KeptTable(table);
    this.#timeouts = new KeptTable(`${table}_timeouts`);
  }

  /**
   * Makes it so, all at once, except for ports that processes of this node have: those are the answer. Where the same is
   * wanted as before it starts no process, unless it is to `look`: at which processes have ports by now, and at the tables,
   * to put back what another program removed.
   */
  apply(desired: DesiredMesh, { look = false } = {}): Promise<readonly HeldPort[]> {
    return this.#turns.run(async () => {
      if (!look && this.#isApplied && isDeepStrictEqual(desired, this.#applied?.desired)) return this.#applied!.held;
      this.#isApplied = false;
      const held = await this.#held.among(desired.ports, desired.pool);
      await this.#put(desired, held);
      this.#isApplied = true;
      return held;
    });
  }

  /** From now on puts back at once what another program removes. */
  watch(): void {
    this.#watch = watchOutput({
      log: this.#log,
      clock: this.#clock,
      monitors: [["nft", "monitor"]],
      what: "rules of nftables",
      isOurs: changesOf(this.#table.name),
      onChange: () => void this.#turns.run(() => this.#restore()),
    });
  }

  /** Stops watching; the table stays in force. */
  async close(): Promise<void> {
    this.#watch?.close();
    await this.#turns.settled();
  }

  remove(): Promise<void> {
    return this.#turns.run(async () => {
      this.#applied = undefined;
      this.#isApplied = false;
      await this.#table.remove();
      await this.#timeouts.remove();
    });
  }

  /** Whether the kernel has the table, of this agent or one before. */
  isThere(): Promise<boolean> {
    return this.#turns.run(() => this.#table.isThere());
  }

  /**
   * Packets that the table has stopped since the agent started, and its first table before, and those for which the kernel had
   * no room in its tracking of connections; by reason.
   */
  drops(): Promise<DropCounts> {
    return this.#turns.run(async () => ({
      ...addDrops(this.#dropped, await this.#counted()),
      ...(await conntrackDrops()),
    }));
  }

  /** What the table that is in force has stopped, by the names that a person reads. */
  async #counted(): Promise<DropCounts> {
    const counters = await this.#table.counters();
    const names = Object.values(KERNEL_DROPS);
    return Object.fromEntries(names.map((name) => [name.replaceAll("_", "-"), counters.get(name) ?? 0]));
  }

  async #put(desired: DesiredMesh, held: readonly HeldPort[]): Promise<void> {
    await this.#timeouts.put(timeoutRuleset(this.#timeouts.name, desired.pool, desired.device));
    const put = await this.#table.put(ruleset(this.#table.name, desired, held), async () => {
      this.#dropped = addDrops(this.#dropped, await this.#counted());
    });
    // Flows that began while another process had taken the rules away met none of them.
    const before = put === "restored" ? undefined : this.#applied;
    this.#applied = { desired, held };
    if (put === "same") return;
    await this.#endFlows(before, this.#applied);
  }

  /** Never rejects: apply() is tried again. */
  async #restore(): Promise<void> {
    if (this.#applied === undefined) return;
    const { desired, held } = this.#applied;
    try {
      if ((await this.#table.isWhole()) && (await this.#timeouts.isWhole())) return;
      this.#log.warn("another program changed overlayd's tables in nftables: they are put back", {
        reason: `tables ip ${this.#table.name} and ${this.#timeouts.name}`,
      });
      await this.#put(desired, held);
    } catch (error) {
      this.#log.error("the tables in nftables cannot be put back yet", { reason: messageOf(error) });
    }
  }

  /**
   * A client that goes on from the same source port keeps the translation, or the lack of one, that its first packet met.
   * conntrack(8) ends that; without it a UDP client has to pause, and a TCP client to wait for the end of the entry.
   */
  async #endFlows(before: Applied | undefined, { desired, held }: Applied): Promise<void> {
    const changed = (protocol: Protocol): Set<number> =>
      differing(
        entrances(protocol, before?.desired.ports ?? [], before?.held ?? []),
        entrances(protocol, desired.ports, held),
      );
    const [udp, tcp] = [changed("udp"), changed("tcp")];
    try {
      if (udp.size > 0) await endUdpFlows(udp);
      if (tcp.size > 0) await endStaleTcpFlows(tcp, desired.ports, desired.pool);
    } catch (error) {
      if (this.#hasWarned) return;
      this.#hasWarned = true;
      this.#log.warn("clients that already use a port notice a change of it only after a pause", {
        reason: messageOf(error),
      });
    }
  }
}

/**
 * Whether a line of `nft monitor` is about a change of the table. It ends each transaction with a line of its own, and
 * says nothing before that of sets that it came to know too late: such a transaction may be about any table.
 */
export function changesOf(table: string): (line: string) => boolean {
  let isNamed = false;
  return (line) => {
    const isEnd = line.startsWith("# new generation");
    const isUnnamed = isEnd && !isNamed;
    isNamed = !isEnd;
    return isUnnamed || line.includes(` ip ${table}`);
  };
}

/** Where each published port of a protocol leads, in words that differ when that does. */
export function entrances(
  protocol: Protocol,
  ports: readonly MeshPort[],
  held: readonly HeldPort[],
): Map<number, string> {
  const words = new Map<number, string>();
  const add = (port: number, word: string) => words.set(port, `${words.get(port) ?? ""} ${word}`);
  for (const { port, vip, address } of ports.filter((other) => other.protocol === protocol))
    add(port, `${address}>${vip}`);
  for (const { port, address } of held.filter((other) => other.protocol === protocol)) add(port, `not ${address}`);
  return words;
}

/** Ports that lead elsewhere than before. */
export function differing(before: ReadonlyMap<number, string>, after: ReadonlyMap<number, string>): Set<number> {
  return new Set([...before.keys(), ...after.keys()].filter((port) => before.get(port) !== after.get(port)));
}

/** Throws PlatformError where nft is missing or may not be used: without its guards no node is safe. */
export async function checkNftables(): Promise<void> {
  await nft(["list", "tables"]);
}
