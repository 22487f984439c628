// Watches the nodes: once a beat it looks which are lost, and which put less in force than their row says, and has that
// recorded in the state.
import { BEATS_PER_PERIOD } from "../cluster/protocol.ts";
import type { Node } from "../cluster/schema.ts";
import type { Draft } from "../cluster/state.ts";
import type { Clock, Timer } from "../lib/clock.ts";
import type { Log } from "../lib/log.ts";
import type { NodeHealth } from "./node-health.ts";
import type { NodeSessions } from "./node-sessions.ts";
import type { Reconciler } from "./reconciler.ts";
import type { Sessions } from "./sessions.ts";
import type { StateWriter } from "./state-writer.ts";

interface NodeWatchOptions {
  writer: StateWriter;
  reconciler: Reconciler;
  sessions: Sessions;
  nodeSessions: NodeSessions;
  health: NodeHealth;
  clock: Clock;
  log: Log;
  livenessMs(): number;
}

export class NodeWatch {
  readonly #options: NodeWatchOptions;
  #beat: Timer | undefined;

  constructor(options: NodeWatchOptions) {
    this.#options = options;
  }

  /** The leader begins: silence counts from now. */
  begin(): void {
    const { writer, health } = this.#options;
    health.begin(writer.state.nodes.by("state", "ready").map(({ id }) => id));
    this.#schedule();
  }

  end(): void {
    this.#beat?.cancel();
  }

  /** `livenessMs` is another one. */
  paceChanged(): void {
    this.#beatNow();
  }

  #schedule(): void {
    const { clock, livenessMs } = this.#options;
    this.#beat = clock.after(livenessMs() / BEATS_PER_PERIOD, () => this.#beatNow());
  }

  #beatNow(): void {
    this.#beat?.cancel();
    this.#schedule();
    this.#look();
  }

  /** Loops over the nodes, once a beat. */
  #look(): void {
    const { writer, sessions, health, reconciler, log } = this.#options;
    const ready = writer.state.nodes.by("state", "ready");
    const lost = health.lostOf(ready.map(({ id }) => id));
    for (const { id } of ready) health.note(id, sessions.of(id)?.applied ?? 0, writer.sentRevision);
    const judged = ready.filter((node) => node.health !== health.of(node.id)).map(({ id }) => id);
    if (lost.length === 0 && judged.length === 0 && !reconciler.isDraining && !reconciler.isDue) return;
    this.#record(lost, judged).catch((error: unknown) => log.error("cannot record lost nodes", { err: error }));
  }

  /** Also without any node it is a turn, in which what is due is done. */
  async #record(lost: readonly string[], judged: readonly string[]): Promise<void> {
    const { writer, health } = this.#options;
    const work = (draft: Draft): Node[] => {
      const down = lost.filter((id) => health.silent(id)).flatMap((id) => draft.state.nodes.get(id) ?? []);
      for (const node of down) draft.put("nodes", { ...node, state: "down", health: "well" });
      health.record(draft, judged);
      return down;
    };
    await writer.run(work, (down) => {
      for (const node of down) this.#lost(node);
    });
  }

  #lost({ id, name, address }: Node): void {
    this.#options.log.warn("a node is down: its session is lost", { node: name, address });
    this.#options.nodeSessions.down(id);
  }
}
