// One node's end as an agent has it: the session, the node's state over it, and the data path's rows derived from that. It
// is fed the lines that the leader sent to a node, and says what they cost.
import { rmSync } from "node:fs";
import { join } from "node:path";
import type { Viewpoint } from "../../../src/agent/compile-tables.ts";
import { Derived } from "../../../src/agent/derived.ts";
import { NodeState } from "../../../src/agent/node-state.ts";
import { addUnits, type DirtyUnits } from "../../../src/agent/units.ts";
import type { NodeIdentity } from "../../../src/cluster/protocol.ts";
import type { State } from "../../../src/cluster/tables.ts";
import { silentLog } from "../../../src/lib/log.ts";
import { Session } from "../../../src/session/session.ts";
import type { Transport } from "../../../src/session/transport.ts";
import { seededRandom } from "../../fakes/seeded-random.ts";
import { VirtualClock } from "../../fakes/virtual-clock.ts";
import { temporaryDirectory } from "../../temporary.ts";
import { settle, threadMilliseconds } from "./thread-time.ts";

const MANAGER = "192.0.2.11:2377";

/** Milliseconds of the processor, from a line's arrival. */
export interface Cost {
  /** Until the data path's rows are derived. */
  inForceMs: number;
  /** Until nothing is left to do, the copy of the state on disk included. */
  allMs: number;
}

export class RealEnd {
  readonly #clock = new VirtualClock();
  readonly #directory = temporaryDirectory("sim-end");
  readonly #session: Session;
  readonly #nodeState: NodeState;
  readonly #derived = new Derived();
  readonly #pool: string;
  readonly #lines: Buffer[] = [];
  #wake = (): void => {};
  #inForceAt = 0;

  constructor(identity: NodeIdentity, pool: string) {
    this.#pool = pool;
    const never = (): never => {
      throw new Error("this end only listens");
    };
    const transport: Transport = {
      leads: async () => {},
      open: (_manager, _request, signal) => this.#stream(signal),
      report: async () => {},
      beats: () => ({ tell: () => true, end: () => {} }),
      execute: never,
      waitApplied: never,
      readLog: never,
      bringLog: never,
      refuseLog: never,
    };
    this.#session = new Session({
      identity,
      managers: [MANAGER],
      snapshotPath: join(this.#directory, "state"),
      clock: this.#clock,
      log: silentLog,
      random: seededRandom(1),
      transport,
    });
    this.#nodeState = new NodeState(this.#session, this.#clock);
    this.#nodeState.subscribe((changes) => {
      const dirty: DirtyUnits = new Set();
      const { state } = this.#nodeState;
      const viewpoint = this.#viewpoint(identity);
      for (const change of changes) addUnits(dirty, state, change, viewpoint.nodeId);
      this.#derived.update(state, viewpoint, dirty);
      this.#inForceAt = threadMilliseconds();
    });
  }

  get state(): State {
    return this.#session.live;
  }

  /** How many rows the data path has. */
  get rows(): number {
    return this.#derived.rows().size;
  }

  async start(): Promise<void> {
    await this.#session.start();
  }

  /** Resolves when the last of the lines, which brings `revision`, is in force. Throws when it is refused. */
  async receive(lines: readonly Buffer[], revision: number): Promise<Cost> {
    const before = threadMilliseconds();
    this.#lines.push(...lines);
    this.#wake();
    const isThere = (): boolean => this.#session.connected && this.#session.live.revision >= revision;
    for (let turns = 0; !isThere(); turns++) {
      if (this.#session.problem !== undefined) throw new Error(this.#session.problem);
      if (turns > 1_000_000) throw new Error(`revision ${revision} does not arrive`);
      await settle();
    }
    await settle();
    return { inForceMs: Math.max(0, this.#inForceAt - before), allMs: threadMilliseconds() - before };
  }

  async stop(): Promise<void> {
    this.#nodeState.stop();
    await this.#session.stop();
    rmSync(this.#directory, { recursive: true, force: true });
  }

  async *#stream(signal: AbortSignal): AsyncGenerator<unknown> {
    signal.addEventListener("abort", () => this.#wake());
    for (;;) {
      signal.throwIfAborted();
      const line = this.#lines.shift();
      if (line !== undefined) {
        for (const text of line.toString().trimEnd().split("\n")) yield JSON.parse(text);
      } else {
        await new Promise<void>((resolve) => {
          this.#wake = resolve;
        });
      }
    }
  }

  #viewpoint({ address }: NodeIdentity): Viewpoint {
    return {
      nodeId: this.#session.nodeId ?? "",
      pool: this.#pool,
      hostAddresses: [address],
      mtu: 1400,
      meshOn: true,
      heldPorts: [],
      managers: [],
      nodeServices: false,
      isProvisional: false,
    };
  }
}
