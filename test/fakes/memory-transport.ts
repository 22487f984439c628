// The control plane's wire in memory: managers by name, nodes that can be cut off, everything through JSON.
import type { CommandInput, CommandResult } from "../../src/cluster/commands.ts";
import { NodeIdentity, type Report, type SessionRequest, type StreamMessage } from "../../src/cluster/protocol.ts";
import type { Leader } from "../../src/leader/leader.ts";
import { UnreachableError } from "../../src/lib/http.ts";
import type { Transport } from "../../src/session/transport.ts";
import { readingSink } from "../leader/fake-node.ts";
import { joining } from "./founding.ts";

export class MemoryWire {
  readonly #leaders = new Map<string, Leader>();
  readonly #cut = new Set<string>();
  /** Rows of snapshots that leaders have sent. */
  rows = 0;
  // BOUNDED: by the nodes; keyed by name. The ids that they got when they joined.
  readonly #ids = new Map<string, string>();

  /** Who answers as `manager`; undefined: nobody. */
  setLeader(manager: string, leader: Leader | undefined): void {
    if (leader === undefined) this.#leaders.delete(manager);
    else this.#leaders.set(manager, leader);
  }

  /** Lets nothing through between the node and any manager: what is sent is lost in silence. */
  cut(node: string): void {
    this.#cut.add(node);
  }

  mend(node: string): void {
    this.#cut.delete(node);
  }

  /** The node's end. */
  transport(node: string): Transport {
    const reach = (manager: string): Leader => {
      const leader = this.#leaders.get(manager);
      if (leader === undefined) throw new UnreachableError("ECONNREFUSED");
      if (this.#cut.has(node)) throw new UnreachableError("EHOSTUNREACH");
      return leader;
    };
    const ofCluster = (manager: string, cluster: string | undefined): Leader => {
      const leader = reach(manager);
      if (cluster !== undefined) leader.requireCluster(cluster);
      return leader;
    };
    return {
      leads: async (manager) => reach(manager).requireLeading(),
      open: (manager, request, signal, heard) => this.#stream(reach, manager, node, { request, signal, heard }),
      report: async (manager, sessionId, report: Report) => reach(manager).sessions.report(sessionId, copy(report)),
      beats: (manager, sessionId) => ({
        tell: (applied) => {
          try {
            reach(manager).sessions.beat(sessionId, applied);
            return true;
          } catch {
            return false;
          }
        },
        end: () => {},
      }),
      execute: async (manager, cluster, command: CommandInput): Promise<CommandResult> =>
        ofCluster(manager, cluster).execute(copy(command)),
      readLog: async (manager, cluster, taskId, query) => ofCluster(manager, cluster).logs.read(taskId, copy(query)),
      bringLog: async (manager, sessionId, requestId, log) => reach(manager).logs.bring(sessionId, requestId, log),
      refuseLog: async (manager, sessionId, requestId, refusal) =>
        reach(manager).logs.refuse(sessionId, requestId, copy(refusal)),
      waitApplied: async (manager, cluster, revision, timeoutMs) =>
        ofCluster(manager, cluster).waitApplied(revision, timeoutMs),
    };
  }

  async *#stream(
    reach: (manager: string) => Leader,
    manager: string,
    node: string,
    { request, signal, heard }: { request: SessionRequest; signal: AbortSignal; heard: () => void },
  ): AsyncGenerator<unknown> {
    const lines: unknown[] = [];
    let closed = false;
    let wake = () => {};
    const receive = (message: StreamMessage) => {
      if (message.type === "rows") this.rows += message.rows.length;
      if (!this.#cut.has(node)) lines.push(message);
      wake();
    };
    const close = () => {
      closed = true;
      wake();
    };
    signal.addEventListener("abort", close);
    const leader = reach(manager);
    const { known: _, protocol: __, features: ___, has: ____, ...identity } = request;
    const id = this.#ids.get(node) ?? (await leader.admit(joining(NodeIdentity.parse(identity)))).id;
    this.#ids.set(node, id);
    const sessionId = await leader.sessions.open({ id }, copy(request), readingSink(receive, close));
    try {
      for (;;) {
        signal.throwIfAborted();
        const line = lines.shift();
        if (line !== undefined) {
          heard();
          yield line;
        } else if (closed) return;
        else
          await new Promise<void>((resolve) => {
            wake = resolve;
          });
      }
    } finally {
      leader.sessions.close(sessionId);
    }
  }
}

function copy<T>(value: T): T {
  return JSON.parse(JSON.stringify(value)) as T;
}
