// A leader whose streams are written down: each session gets the next of the scripts, and then the last one again.
import type { SessionRequest, StreamMessage } from "../../src/cluster/protocol.ts";
import type { Change } from "../../src/cluster/schema.ts";
import { NODE_KINDS } from "../../src/cluster/schema.ts";
import type { State } from "../../src/cluster/tables.ts";
import type { Transport } from "../../src/session/transport.ts";

export const CLUSTER = { id: "c".repeat(25), epoch: 1 };
export const SCRIPTED_NODE = "n".repeat(25);

/** A line, `heard` for bytes without the end of a line, or `end` for the end of the stream. Without `end` it stays open. */
export type ScriptStep = StreamMessage | object | "heard" | "end";

/** `schema`: by default that of another build, whose rows are checked. */
export function opening(revision: number, livenessMs = 15_000, schema = "another"): StreamMessage {
  const state = { ...CLUSTER, revision };
  return { type: "session", sessionId: "s".repeat(25), nodeId: SCRIPTED_NODE, livenessMs, state, schema };
}

/** The lines of a snapshot, a row a line. */
export function snapshotOf(state: State): StreamMessage[] {
  const rows = NODE_KINDS.flatMap((kind) =>
    [...state[kind].values()].map((row): StreamMessage => ({ type: "rows", kind, rows: [row] })),
  );
  const { revision } = state;
  return [{ type: "snapshot", revision, cluster: CLUSTER, rows: rows.length }, ...rows, { type: "snapshot-end" }];
}

export function changes(after: number, revision: number, ...rows: Change[]): StreamMessage {
  return { type: "changes", after, revision, changes: rows };
}

export class ScriptedLeader {
  readonly #scripts: (readonly ScriptStep[])[];
  /** What the node asked for its sessions with. */
  readonly requests: SessionRequest[] = [];
  readonly #open: ((step: ScriptStep) => void)[] = [];

  constructor(...scripts: (readonly ScriptStep[])[]) {
    this.#scripts = scripts;
  }

  /** Puts a step at the end of the newest stream. */
  send(step: ScriptStep): void {
    this.#open.at(-1)!(step);
  }

  get transport(): Transport {
    const nothing = async (): Promise<never> => {
      throw new Error("nothing else is written down");
    };
    return {
      leads: async () => {},
      open: (_, request, signal, heard) => this.#stream(request, signal, heard),
      report: async () => {},
      beats: () => ({ tell: () => false, end: () => {} }),
      ...{ execute: nothing, waitApplied: nothing, readLog: nothing, bringLog: nothing, refuseLog: nothing },
    };
  }

  async *#stream(request: SessionRequest, signal: AbortSignal, heard: () => void): AsyncGenerator<unknown> {
    this.requests.push(request);
    const steps = [...(this.#scripts.length > 1 ? this.#scripts.shift()! : this.#scripts[0]!)];
    let wake = () => {};
    this.#open.push((step) => {
      steps.push(step);
      wake();
    });
    signal.addEventListener("abort", () => wake());
    for (;;) {
      signal.throwIfAborted();
      const step = steps.shift();
      if (step === "end") return;
      if (step !== undefined) heard();
      if (typeof step === "object") yield JSON.parse(JSON.stringify(step));
      if (step !== undefined) continue;
      await new Promise<void>((resolve) => {
        wake = resolve;
      });
    }
  }
}
