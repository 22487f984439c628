// The routing mesh in the kernel: one table, replaced in one transaction, looked after between changes.
import { CommandError, run } from "../lib/command.ts";
import { messageOf, PlatformError } from "../lib/errors.ts";
import type { Log } from "../lib/log.ts";
import type { DesiredMesh, Mesh, MeshPort } from "./mesh.ts";
import { ruleset } from "./nftables.ts";

interface Applied {
  text: string;
  /** The kernel's own number for the table: another one means that somebody replaced it. */
  handle: number;
  ports: readonly MeshPort[];
}

export class NftablesMesh implements Mesh {
  readonly kind = "nftables";
  readonly #log: Log;
  readonly #table: string;
  #applied: Applied | undefined;
  /** What runs now; the next waits for it. */
  #turn: Promise<unknown> = Promise.resolve();
  #saidConntrack = false;

  constructor(log: Log, table: string) {
    this.#log = log;
    this.#table = table;
  }

  apply(desired: DesiredMesh): Promise<void> {
    return this.#inTurn(() => this.#apply(desired));
  }

  remove(): Promise<void> {
    return this.#inTurn(async () => {
      this.#applied = undefined;
      await nft(["-f", "-"], `add table ip ${this.#table}\ndelete table ip ${this.#table}\n`);
    });
  }

  #inTurn(work: () => Promise<void>): Promise<void> {
    const result = this.#turn.then(work);
    this.#turn = result.catch(() => {});
    return result;
  }

  async #apply(desired: DesiredMesh): Promise<void> {
    const text = ruleset(this.#table, desired);
    if (this.#applied?.text === text && (await this.#handle()) === this.#applied.handle) return;
    await nft(["-f", "-"], text);
    const before = this.#applied?.ports ?? [];
    this.#applied = { text, handle: (await this.#handle()) ?? -1, ports: desired.ports };
    await this.#forgetFlows(changedUdpPorts(before, desired.ports));
  }

  async #handle(): Promise<number | undefined> {
    const { nftables } = JSON.parse(await nft(["-j", "list", "tables"])) as {
      nftables: { table?: { family: string; name: string; handle: number } }[];
    };
    return nftables.find(({ table }) => table?.family === "ip" && table.name === this.#table)?.table?.handle;
  }

  /**
   * A UDP client that sends without a pause keeps the translation, or the lack of one, that its first packet met.
   * conntrack(8) ends that; without it the client has to pause for 30 seconds.
   */
  async #forgetFlows(ports: readonly number[]): Promise<void> {
    for (const port of ports) {
      try {
        await run(["conntrack", "-D", "-p", "udp", "--dport", String(port)]);
      } catch (error) {
        if (error instanceof CommandError && error.exitCode === 1) continue; // no such flow
        if (this.#saidConntrack) return;
        this.#saidConntrack = true;
        this.#log.warn("UDP clients that already send to a port notice a change of it only after a pause", {
          port: `${port}/udp`,
          reason: messageOf(error),
        });
        return;
      }
    }
  }
}

/** Ports that lead elsewhere than before. */
export function changedUdpPorts(before: readonly MeshPort[], after: readonly MeshPort[]): number[] {
  const targets = (ports: readonly MeshPort[]) =>
    new Map(ports.filter(({ protocol }) => protocol === "udp").map(({ port, meshVip }) => [port, meshVip]));
  const old = targets(before);
  const now = targets(after);
  return [...new Set([...old.keys(), ...now.keys()])].filter((port) => old.get(port) !== now.get(port));
}

async function nft(args: readonly string[], input = ""): Promise<string> {
  try {
    return await run(["nft", ...args], input);
  } catch (error) {
    if (!(error instanceof CommandError)) throw error;
    const mend = /not permitted/.test(error.stderr) ? "run overlayd as root" : "nft list ruleset; modprobe nf_tables";
    throw new PlatformError(`nftables refused: ${error.stderr.trim()}`, mend, { cause: error });
  }
}
