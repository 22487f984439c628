// An agent reduced to its control plane: a session, and a runtime that does at once what the state says.
import { rm } from "node:fs/promises";
import { join } from "node:path";
import type { NodeIdentity } from "../../src/cluster/protocol.ts";
import type { TaskStatus } from "../../src/cluster/schema.ts";
import type { State } from "../../src/cluster/tables.ts";
import type { Clock } from "../../src/lib/clock.ts";
import { silentLog } from "../../src/lib/log.ts";
import type { Random } from "../../src/lib/random.ts";
import { LeaderCalls } from "../../src/session/leader-calls.ts";
import { Session } from "../../src/session/session.ts";
import type { MemoryWire } from "../fakes/memory-transport.ts";
import { temporaryDirectory } from "../temporary.ts";

let directory: string | undefined;

/** Where this process keeps the snapshots of all nodes. */
function snapshots(): string {
  directory ??= temporaryDirectory("sim");
  return directory;
}

export interface SimulatedWorld {
  wire: MemoryWire;
  clock: Clock;
  random: Random;
  managers: readonly string[];
}

export class SimulatedNode {
  readonly identity: NodeIdentity;
  readonly snapshotPath: string;
  readonly #world: SimulatedWorld;
  session!: Session;
  calls!: LeaderCalls;
  /** Ids of the tasks whose processes it runs. */
  running = new Set<string>();
  #reported: string[] = [];

  constructor(identity: NodeIdentity, world: SimulatedWorld, run: string) {
    this.identity = identity;
    this.#world = world;
    this.snapshotPath = join(snapshots(), `${run}-${identity.name}`);
  }

  /** The agent starts; processes of an earlier one go on. */
  async start(): Promise<void> {
    const { wire, clock, random, managers } = this.#world;
    const transport = wire.transport(this.identity.name);
    const { identity } = this;
    this.session = new Session({
      identity,
      managers,
      snapshotPath: this.snapshotPath,
      clock,
      log: silentLog,
      random,
      transport,
    });
    this.calls = new LeaderCalls({ session: this.session, transport, clock });
    await this.session.start();
    this.session.onChanges(() => this.#obey(this.session.live));
    if (this.session.state !== undefined) this.#obey(this.session.live);
  }

  async stop(): Promise<void> {
    await this.session.stop();
  }

  /** The machine reboots: no process is left. */
  reboot(): void {
    this.running.clear();
  }

  async remove(): Promise<void> {
    await this.stop();
    await rm(this.snapshotPath, { force: true });
  }

  #obey(state: State): void {
    const own = [...state.tasks.values()].filter(({ nodeId }) => nodeId === this.session.nodeId);
    this.running = new Set(own.filter(({ desired }) => desired !== "shutdown").map(({ id }) => id));
    const statuses = own.map(
      ({ id, nodeId, desired }): TaskStatus => ({
        taskId: id,
        nodeId: nodeId!,
        state: desired === "shutdown" ? "shutdown" : "running",
        since: 0,
        error: null,
        exitCode: null,
        message: null,
        restarts: 0,
      }),
    );
    const { statusReports } = this.session;
    for (const taskId of this.#reported) if (!own.some(({ id }) => id === taskId)) statusReports.remove(taskId);
    for (const status of statuses) statusReports.put(status);
    this.#reported = own.map(({ id }) => id);
    statusReports.complete();
    this.session.reportApplied(state.revision);
  }
}
