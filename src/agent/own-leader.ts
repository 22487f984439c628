// The way of a manager's own node to its own leader: calls within the process, while this manager leads. Other managers are
// reached over the network, as every node reaches them.
import { finished } from "node:stream/promises";
import { setImmediate as nextEvents } from "node:timers/promises";
import type { SessionRequest } from "../cluster/protocol.ts";
import type { Leader } from "../leader/leader.ts";
import type { SessionPeer, SessionSink } from "../leader/sessions.ts";
import type { Transport } from "../session/transport.ts";

export class OwnLeader implements Transport {
  readonly #network: Transport;
  #own: { manager: string; leader: Leader; nodeId: string } | undefined;

  constructor(network: Transport) {
    this.#network = network;
  }

  /** From now on `manager`, HOST:PORT, is reached in this process by the node of that id. */
  begin(manager: string, leader: Leader, nodeId: string): void {
    this.#own = { manager, leader, nodeId };
  }

  leads: Transport["leads"] = async (manager, signal) => {
    const leader = this.#leaderAt(manager);
    return leader === undefined ? this.#network.leads(manager, signal) : leader.requireLeading();
  };

  open(manager: string, request: SessionRequest, signal: AbortSignal, heard: () => void): AsyncIterable<unknown> {
    const leader = this.#leaderAt(manager);
    if (leader === undefined) return this.#network.open(manager, request, signal, heard);
    return followOwn(leader, { id: this.#own!.nodeId }, { request, signal, heard });
  }

  report: Transport["report"] = async (manager, sessionId, report, signal) => {
    const leader = this.#leaderAt(manager);
    if (leader === undefined) return this.#network.report(manager, sessionId, report, signal);
    return leader.report(sessionId, report);
  };

  execute: Transport["execute"] = async (manager, cluster, command) => {
    const leader = this.#leaderOf(manager, cluster);
    return leader === undefined ? this.#network.execute(manager, cluster, command) : leader.execute(command);
  };

  waitApplied: Transport["waitApplied"] = async (manager, cluster, revision, timeoutMs) => {
    const leader = this.#leaderOf(manager, cluster);
    return leader === undefined
      ? this.#network.waitApplied(manager, cluster, revision, timeoutMs)
      : leader.waitApplied(revision, timeoutMs);
  };

  readLog: Transport["readLog"] = async (manager, cluster, taskId, query) => {
    const leader = this.#leaderOf(manager, cluster);
    return leader === undefined
      ? this.#network.readLog(manager, cluster, taskId, query)
      : leader.readLog(taskId, query);
  };

  bringLog: Transport["bringLog"] = async (manager, sessionId, requestId, log) => {
    const leader = this.#leaderAt(manager);
    if (leader === undefined) return this.#network.bringLog(manager, sessionId, requestId, log);
    leader.bringLog(sessionId, requestId, log);
    await finished(log).catch(() => {}); // the reader of the log gets the error
  };

  refuseLog: Transport["refuseLog"] = async (manager, sessionId, requestId, refusal) => {
    const leader = this.#leaderAt(manager);
    if (leader === undefined) return this.#network.refuseLog(manager, sessionId, requestId, refusal);
    leader.refuseLog(sessionId, requestId, refusal);
  };

  #leaderAt(manager: string): Leader | undefined {
    return this.#own?.manager === manager ? this.#own.leader : undefined;
  }

  /** Throws UserError 503 when it leads another cluster. */
  #leaderOf(manager: string, cluster: string | undefined): Leader | undefined {
    const leader = this.#leaderAt(manager);
    if (cluster !== undefined) leader?.requireCluster(cluster);
    return leader;
  }
}

/** The lines of a session within the process. */
async function* followOwn(
  leader: Leader,
  peer: SessionPeer,
  { request, signal, heard }: { request: SessionRequest; signal: AbortSignal; heard: () => void },
): AsyncGenerator<unknown> {
  const sink = new OwnSink();
  const sessionId = await leader.openSession(peer, request, sink);
  const close = () => sink.close();
  signal.addEventListener("abort", close);
  try {
    for await (const line of sink.lines()) {
      signal.throwIfAborted();
      heard();
      yield JSON.parse(line.toString());
    }
  } finally {
    signal.removeEventListener("abort", close);
    leader.closeSession(sessionId);
  }
}

/** Keeps what the leader sends until the node has taken it, which it does before other events of this thread. */
class OwnSink implements SessionSink {
  // BOUNDED: by what the leader sends while the node takes one snapshot.
  readonly #queue: (Buffer | Iterator<Buffer>)[] = [];
  #isClosed = false;
  #wake: () => void = () => {};

  send(line: Buffer): void {
    this.#queue.push(line);
    this.#wake();
  }

  sendSnapshot(lines: Iterator<Buffer>): void {
    this.#queue.push(lines);
    this.#wake();
  }

  close(): void {
    this.#isClosed = true;
    this.#wake();
  }

  /** Ends when the leader has ended the session, or the node has. */
  async *lines(): AsyncGenerator<Buffer> {
    while (!this.#isClosed) {
      const next = this.#queue.shift();
      if (next === undefined) await this.#more();
      else if ("next" in next) yield* this.#inPieces(next);
      else yield next;
    }
  }

  /** Lets other work of the thread go on between the lines of a snapshot. */
  async *#inPieces(snapshot: Iterator<Buffer>): AsyncGenerator<Buffer> {
    try {
      while (!this.#isClosed) {
        const { value, done } = snapshot.next();
        if (done === true) return;
        yield value;
        await nextEvents();
      }
    } finally {
      snapshot.return?.();
    }
  }

  #more(): Promise<void> {
    return new Promise((resolve) => {
      this.#wake = resolve;
    });
  }
}
