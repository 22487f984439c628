// The routing mesh in the kernel: one table, replaced in one transaction, looked after between changes.
import type { HeldPort } from "../cluster/schema.ts";
import type { Clock } from "../lib/clock.ts";
import { CommandError, run } from "../lib/command.ts";
import { messageOf, PlatformError } from "../lib/errors.ts";
import type { Log } from "../lib/log.ts";
import { type Watch, watchOutput } from "../lib/watch-output.ts";
import { HeldPorts } from "./held-ports.ts";
import { addDrops, type DropCounts, readKernelDrops } from "./kernel-drops.ts";
import type { DesiredMesh, MeshPort } from "./mesh.ts";
import { ruleset } from "./nftables.ts";

interface Applied {
  desired: DesiredMesh;
  held: readonly HeldPort[];
  text: string;
  /** The table as the kernel lists it. */
  listing: string | undefined;
}

export interface NftablesMeshOptions {
  log: Log;
  clock: Clock;
  /** The table's name. */
  table?: string;
}

export class NftablesMesh {
  readonly #log: Log;
  readonly #clock: Clock;
  readonly #table: string;
  readonly #held = new HeldPorts();
  #applied: Applied | undefined;
  /** What runs now; the next waits for it. */
  #turn: Promise<unknown> = Promise.resolve();
  #watch: Watch | undefined;
  #saidConntrack = false;
  /** What tables before this one have stopped: their counters went with them. */
  #dropped: DropCounts = {};

  constructor({ log, clock, table = "overlayd" }: NftablesMeshOptions) {
    this.#log = log;
    this.#clock = clock;
    this.#table = table;
  }

  /**
   * Makes it so, all at once, except for ports that processes of this node have: those are the answer. Doing it again
   * costs little, and puts back what another program removed.
   */
  apply(desired: DesiredMesh): Promise<HeldPort[]> {
    return this.#inTurn(async () => {
      const held = await this.#held.among(desired.ports, desired.pool);
      await this.#put(desired, held);
      return held;
    });
  }

  /** Packets that the table has stopped since the agent started, and of its first table before, by reason. */
  drops(): Promise<DropCounts> {
    return this.#inTurn(async () => addDrops(this.#dropped, await readKernelDrops(this.#table)));
  }

  /** From now on puts back at once what another program removes. */
  watch(): void {
    this.#watch = watchOutput({
      log: this.#log,
      clock: this.#clock,
      monitors: [["nft", "monitor"]],
      what: "rules of nftables",
      isOurs: changesOf(this.#table),
      onChange: () => void this.#inTurn(() => this.#restore()),
    });
  }

  /** Watches nothing any more; the table stays in force. */
  async close(): Promise<void> {
    this.#watch?.close();
    await this.#turn;
  }

  remove(): Promise<void> {
    return this.#inTurn(async () => {
      this.#applied = undefined;
      await nft(["-f", "-"], `add table ip ${this.#table}\ndelete table ip ${this.#table}\n`);
    });
  }

  #inTurn<T>(work: () => Promise<T>): Promise<T> {
    const result = this.#turn.then(work);
    this.#turn = result.catch(() => {});
    return result;
  }

  async #put(desired: DesiredMesh, held: readonly HeldPort[]): Promise<void> {
    const text = ruleset(this.#table, desired, held);
    const known = this.#applied?.text === text ? this.#applied.listing : undefined;
    if (known !== undefined && (await this.#listing()) === known) return;
    this.#dropped = addDrops(this.#dropped, await readKernelDrops(this.#table));
    await nft(["-f", "-"], text);
    // Who came while somebody had taken the rules away met none of them.
    const old = known === undefined ? this.#applied : undefined;
    const before = udpEntrances(old?.desired.ports ?? [], old?.held ?? []);
    // The same text makes the same listing; what is listed now may have been changed again already.
    this.#applied = { desired, held, text, listing: known ?? (await this.#listing()) };
    await this.#forgetFlows(differing(before, udpEntrances(desired.ports, held)));
  }

  /** Never rejects: apply() is tried again. */
  async #restore(): Promise<void> {
    if (this.#applied === undefined) return;
    const { desired, held, listing } = this.#applied;
    try {
      if ((await this.#listing()) === listing) return;
      this.#log.warn("somebody changed overlayd's table in nftables: it is put back", {
        reason: `table ip ${this.#table}`,
      });
      await this.#put(desired, held);
    } catch (error) {
      this.#log.error("the table in nftables cannot be put back yet", { reason: messageOf(error) });
    }
  }

  /** undefined: there is no such table. */
  async #listing(): Promise<string | undefined> {
    try {
      return await run(["nft", "--stateless", "list", "table", "ip", this.#table]);
    } catch (error) {
      if (error instanceof CommandError) return undefined;
      throw error;
    }
  }

  /**
   * A UDP client that sends without a pause keeps the translation, or the lack of one, that its first packet met.
   * conntrack(8) ends that; without it the client has to pause for 30 seconds.
   */
  async #forgetFlows(ports: ReadonlySet<number>): Promise<void> {
    if (ports.size === 0) return;
    try {
      await forgetFlows(ports);
    } catch (error) {
      if (this.#saidConntrack) return;
      this.#saidConntrack = true;
      this.#log.warn("UDP clients that already send to a port notice a change of it only after a pause", {
        reason: messageOf(error),
      });
    }
  }
}

/** Ends the UDP flows to these ports. `conntrack` stands in for the program in tests. */
export async function forgetFlows(
  ports: ReadonlySet<number>,
  conntrack: typeof run = (argv) => run(["conntrack", ...argv]),
): Promise<void> {
  const listing = await conntrack(["-L", "-p", "udp"]);
  const used = new Set([...listing.matchAll(/^udp .*? dport=(\d+)/gm)].map(([, port]) => Number(port)));
  for (const port of ports) {
    if (!used.has(port)) continue;
    try {
      await conntrack(["-D", "-p", "udp", "--dport", String(port)]);
    } catch (error) {
      // The flow has ended meanwhile.
      if (!(error instanceof CommandError) || error.exitCode !== 1) throw error;
    }
  }
}

/**
 * Whether a line of `nft monitor` tells of a change of the table. It ends each transaction with a line of its own, and
 * says nothing before that of sets that it came to know too late: such a transaction may be about any table.
 */
export function changesOf(table: string): (line: string) => boolean {
  let isTold = false;
  return (line) => {
    const isEnd = line.startsWith("# new generation");
    const isUntold = isEnd && !isTold;
    isTold = !isEnd;
    return isUntold || line.includes(` ip ${table}`);
  };
}

/** Where each published UDP port leads, in words that differ when that does. */
export function udpEntrances(ports: readonly MeshPort[], held: readonly HeldPort[]): Map<number, string> {
  const entrances = new Map<number, string>();
  const add = (port: number, word: string) => entrances.set(port, `${entrances.get(port) ?? ""} ${word}`);
  for (const { protocol, port, vip, address } of ports) if (protocol === "udp") add(port, `${address}>${vip}`);
  for (const { protocol, port, address } of held) if (protocol === "udp") add(port, `not ${address}`);
  return entrances;
}

/** Ports that lead elsewhere than before. */
export function differing(before: ReadonlyMap<number, string>, after: ReadonlyMap<number, string>): Set<number> {
  return new Set([...before.keys(), ...after.keys()].filter((port) => before.get(port) !== after.get(port)));
}

/** Throws PlatformError where nft is missing or may not be used: without its guards no node is safe. */
export async function checkNftables(): Promise<void> {
  await nft(["list", "tables"]);
}

async function nft(args: readonly string[], input = ""): Promise<string> {
  try {
    return await run(["nft", ...args], input);
  } catch (error) {
    if (!(error instanceof CommandError)) throw error;
    const mend = /not permitted/.test(error.stderr) ? "run overlayd as root" : "nft list ruleset; modprobe nf_tables";
    throw new PlatformError(`nftables refused: ${error.stderr.trim() || error.message}`, mend, { cause: error });
  }
}
