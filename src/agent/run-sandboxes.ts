// The sandboxes of `overlayctl run`: a network namespace with an endpoint, for as long as the client's process lives.
// A file per sandbox names that process, for the agent may be restarted meanwhile.
import { mkdir, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { OpenSandbox, SandboxView } from "../api/schema.ts";
import type { CommandInput, CommandResult } from "../cluster/commands.ts";
import { containerNaming, type NodeNaming } from "../cluster/container-naming.ts";
import { Naming } from "../cluster/naming.ts";
import { Id } from "../cluster/schema.ts";
import type { State } from "../cluster/tables.ts";
import { check } from "../lib/check.ts";
import type { Clock, Timer } from "../lib/clock.ts";
import { messageOf, UserError } from "../lib/errors.ts";
import type { Log } from "../lib/log.ts";
import { processIdOf } from "../runtime/process-id.ts";
import type { Sandboxes } from "../runtime/sandbox.ts";

const COLLECT_EVERY_MS = 5000;

interface RunSandboxesOptions {
  log: Log;
  clock: Clock;
  /** The files are in it. */
  directory: string;
  sandboxes: Sandboxes;
  state(): State | undefined;
  nodeId(): string | undefined;
  /** The node's naming now: its own resolv.conf may change. */
  naming(): NodeNaming;
  execute(command: CommandInput): Promise<CommandResult>;
  /** Makes the links that are missing; resolves when it is done. */
  relink(): Promise<void>;
  problemOf(address: string): string | undefined;
}

/** The client's process. */
interface Owner {
  pid: number;
  /** Clock ticks from the machine's start to the process's. */
  start: number;
}

const isId = (word: string): boolean => Id.safeParse(word).success;

export class RunSandboxes {
  readonly #options: RunSandboxesOptions;
  #timer: Timer | undefined;
  #collecting: Promise<void> = Promise.resolve();
  // BOUNDED: by the requests under way; ids that collect() must leave alone.
  readonly #opening = new Set<string>();

  constructor(options: RunSandboxesOptions) {
    this.#options = options;
  }

  async start(): Promise<void> {
    await mkdir(this.#options.directory, { recursive: true });
    this.#collectLater();
  }

  async stop(): Promise<void> {
    this.#timer?.cancel();
    this.#timer = undefined;
    await this.#collecting;
  }

  /** Throws UserError. */
  async open({ network, name, pid, naming: asked }: OpenSandbox): Promise<SandboxView> {
    const { execute, sandboxes, relink, problemOf } = this.#options;
    const node = this.#options.nodeId();
    const start = await startOf(pid);
    if (node === undefined) throw new UserError(503, "this node is not part of a cluster yet");
    if (start === undefined) throw new UserError(400, `there is no process ${pid}`, { field: "pid" });
    const naming = asked === undefined ? undefined : check(Naming, asked);
    const hostname = naming?.hostname ?? null;
    if (hostname?.includes("{{")) {
      throw new UserError(400, "hostname: placeholders are for a service's tasks only", { field: "hostname" });
    }
    const dnsServers = naming?.dns.servers ?? [];
    const { id } = await execute({ type: "endpoint.create", node, network, name, dnsServers });
    this.#opening.add(id);
    try {
      const state = this.#options.state();
      const endpoint = state?.endpoints.get(id);
      const row = state?.networks.get(endpoint?.networkId ?? "");
      if (endpoint === undefined || row === undefined)
        throw new UserError(503, "the new endpoint has not reached this node yet: try again");
      await writeFile(this.#file(id), JSON.stringify({ pid, start } satisfies Owner), { mode: 0o600 });
      const made = containerNaming(naming, hostname, [row], this.#options.naming());
      const netns = await sandboxes.create(id, made, endpoint.address);
      await relink();
      const problem = problemOf(endpoint.address);
      if (problem !== undefined) throw new UserError(503, `the sandbox cannot be linked: ${problem}`);
      return { id, netns, address: endpoint.address };
    } catch (error) {
      await this.close(id);
      throw error;
    } finally {
      this.#opening.delete(id);
    }
  }

  /** Resolves also when there is no such sandbox any more. */
  async close(id: string): Promise<void> {
    if (!isId(id)) throw new UserError(400, `'${id}' is not an id`); // it becomes part of paths
    const endpoint = this.#options.state()?.endpoints.get(id);
    await this.#options.sandboxes.remove(id);
    await rm(this.#file(id), { force: true });
    if (endpoint?.nodeId !== this.#options.nodeId()) return;
    await this.#options.execute({ type: "endpoint.remove", id });
  }

  #collectLater(): void {
    this.#timer = this.#options.clock.after(COLLECT_EVERY_MS, () => {
      this.#collecting = this.#collect().catch((error: unknown) => {
        this.#options.log.warn("sandboxes of processes that ended are not removed yet", { reason: messageOf(error) });
      });
      void this.#collecting.then(() => {
        if (this.#timer !== undefined) this.#collectLater();
      });
    });
  }

  /** Removes the sandboxes of processes that are gone. Costs what the node has, every COLLECT_EVERY_MS. */
  async #collect(): Promise<void> {
    const state = this.#options.state();
    const nodeId = this.#options.nodeId();
    const ids = new Set((await readdir(this.#options.directory)).filter(isId));
    const own = nodeId === undefined ? [] : (state?.endpoints.by("node", nodeId) ?? []);
    for (const { id, attachment } of own) if (attachment === null) ids.add(id);
    for (const id of ids) {
      if (!this.#opening.has(id) && !(await this.#isOwned(id))) await this.close(id);
    }
  }

  async #isOwned(id: string): Promise<boolean> {
    try {
      const { pid, start } = JSON.parse(await readFile(this.#file(id), "utf8")) as Owner;
      return (await startOf(pid)) === start;
    } catch {
      return false; // no file, or one that was cut short: no process can claim it
    }
  }

  #file(id: string): string {
    return join(this.#options.directory, id);
  }
}

/** Clock ticks from the machine's start to the process's; undefined: there is no such process. */
async function startOf(pid: number): Promise<number | undefined> {
  const process = await processIdOf(pid);
  return process === undefined ? undefined : Number(process.startTime);
}
