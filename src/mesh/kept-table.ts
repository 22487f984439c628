// One table in nftables: put in one transaction, and told from what another process made of it.
import { CommandError, run } from "../lib/command.ts";
import { PlatformError } from "../lib/errors.ts";

/** `changed`: another text than before. `restored`: the same, which another process had changed. */
type Put = "same" | "restored" | "changed";

export class KeptTable {
  readonly name: string;
  #text: string | undefined;
  /** As the kernel lists what `text` makes. */
  #listing: string | undefined;

  /** In the family `ip`. */
  constructor(name: string) {
    this.name = name;
  }

  /** Puts the text in force where it is not; `replacing` is awaited before. Throws PlatformError. */
  async put(text: string, replacing: () => Promise<void> = async () => {}): Promise<Put> {
    const known = this.#text === text ? this.#listing : undefined;
    if (known !== undefined && (await this.#list()) === known) return "same";
    await replacing();
    await nft(["-f", "-"], text);
    // The same text makes the same listing; what is listed now may have been changed again already.
    this.#listing = known ?? (await this.#list());
    this.#text = text;
    return known === undefined ? "changed" : "restored";
  }

  /** Whether the kernel has a table of that name, from this agent or another program. */
  async isThere(): Promise<boolean> {
    return (await this.#list()) !== undefined;
  }

  /** Whether it is as it was put. */
  async isWhole(): Promise<boolean> {
    return this.#text === undefined || (await this.#list()) === this.#listing;
  }

  /** Packets that each of its counters has seen; empty when there is no such table. */
  async counters(): Promise<Map<string, number>> {
    const listing = await tryNft(["-j", "list", "counters", "table", "ip", this.name]);
    const { nftables = [] } = JSON.parse(listing ?? "{}") as { nftables?: { counter?: CounterJson }[] };
    return new Map(nftables.flatMap(({ counter }) => (counter === undefined ? [] : [[counter.name, counter.packets]])));
  }

  async remove(): Promise<void> {
    this.#text = undefined;
    this.#listing = undefined;
    await nft(["-f", "-"], `add table ip ${this.name}\ndelete table ip ${this.name}\n`);
  }

  /** undefined: there is no such table. */
  #list(): Promise<string | undefined> {
    return tryNft(["--stateless", "list", "table", "ip", this.name]);
  }
}

interface CounterJson {
  name: string;
  packets: number;
}

async function tryNft(args: readonly string[]): Promise<string | undefined> {
  try {
    return await run(["nft", ...args]);
  } catch (error) {
    if (error instanceof CommandError) return undefined;
    throw error;
  }
}

/** Throws PlatformError. */
export async function nft(args: readonly string[], input = ""): Promise<string> {
  try {
    return await run(["nft", ...args], input);
  } catch (error) {
    if (!(error instanceof CommandError)) throw error;
    const mend = /not permitted/.test(error.stderr) ? "run overlayd as root" : "nft list ruleset; modprobe nf_tables";
    throw new PlatformError(`nftables refused: ${error.stderr.trim() || error.message}`, mend, { cause: error });
  }
}
