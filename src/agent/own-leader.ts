// The way of a manager's own node to its own leader: calls within the process, while this manager leads. Other managers are
// reached over the network, as every node reaches them.
import { finished } from "node:stream/promises";
import { setImmediate as nextEvents } from "node:timers/promises";
import type { SessionRequest } from "../cluster/protocol.ts";
import type { Peer } from "../leader/authority.ts";
import type { PeerCalls } from "../leader/peer-calls.ts";
import type { SessionSink } from "../leader/sessions.ts";
import { currentAsker } from "../lib/on-behalf.ts";
import type { Beats } from "../session/beat-stream.ts";
import type { Transport } from "../session/transport.ts";
import type { Subject } from "../trust/certificates.ts";

export class OwnLeader implements Transport {
  readonly #network: Transport;
  readonly #peer: Peer;
  #own: { manager: string; calls: PeerCalls } | undefined;

  /** `node`: this manager's node. */
  constructor(network: Transport, node: Subject) {
    this.#network = network;
    this.#peer = { subject: node, from: null };
  }

  /** From now on `manager`, HOST:PORT, is reached in this process. */
  begin(manager: string, calls: PeerCalls): void {
    this.#own = { manager, calls };
  }

  /** From now on this manager is reached as others are. */
  end(): void {
    this.#own = undefined;
  }

  leads: Transport["leads"] = async (manager, signal) => {
    const calls = this.#callsAt(manager);
    return calls === undefined ? this.#network.leads(manager, signal) : calls.requireLeading(this.#peer);
  };

  open(manager: string, request: SessionRequest, signal: AbortSignal, heard: () => void): AsyncIterable<unknown> {
    const calls = this.#callsAt(manager);
    if (calls === undefined) return this.#network.open(manager, request, signal, heard);
    return followOwn(calls, this.#peer, { request, signal, heard });
  }

  report: Transport["report"] = async (manager, sessionId, report, signal) => {
    const calls = this.#callsAt(manager);
    if (calls === undefined) return this.#network.report(manager, sessionId, report, signal);
    return calls.report(this.#peer, sessionId, report);
  };

  beats(manager: string, sessionId: string, lost: () => void): Beats {
    const calls = this.#callsAt(manager);
    if (calls === undefined) return this.#network.beats(manager, sessionId, lost);
    const tell = (applied: number): boolean => {
      try {
        calls.beat(this.#peer, sessionId, applied);
        return true;
      } catch {
        return false; // the report that follows hears why
      }
    };
    return { tell, end: () => {} };
  }

  execute: Transport["execute"] = async (manager, cluster, command) => {
    const calls = this.#callsOf(manager, cluster);
    if (calls === undefined) return this.#network.execute(manager, cluster, command);
    return calls.execute(this.#peer, command, currentAsker());
  };

  waitApplied: Transport["waitApplied"] = async (manager, cluster, revision, timeoutMs) => {
    const calls = this.#callsOf(manager, cluster);
    return calls === undefined
      ? this.#network.waitApplied(manager, cluster, revision, timeoutMs)
      : calls.waitApplied(this.#peer, revision, timeoutMs);
  };

  readLog: Transport["readLog"] = async (manager, cluster, taskId, query) => {
    const calls = this.#callsOf(manager, cluster);
    return calls === undefined
      ? this.#network.readLog(manager, cluster, taskId, query)
      : calls.readLog(this.#peer, taskId, query);
  };

  bringLog: Transport["bringLog"] = async (manager, sessionId, requestId, log) => {
    const calls = this.#callsAt(manager);
    if (calls === undefined) return this.#network.bringLog(manager, sessionId, requestId, log);
    calls.bringLog(this.#peer, sessionId, requestId, log);
    await finished(log).catch(() => {}); // the reader of the log gets the error
  };

  refuseLog: Transport["refuseLog"] = async (manager, sessionId, requestId, refusal) => {
    const calls = this.#callsAt(manager);
    if (calls === undefined) return this.#network.refuseLog(manager, sessionId, requestId, refusal);
    calls.refuseLog(this.#peer, sessionId, requestId, refusal);
  };

  #callsAt(manager: string): PeerCalls | undefined {
    return this.#own?.manager === manager ? this.#own.calls : undefined;
  }

  /** Throws UserError 503 when it leads another cluster. */
  #callsOf(manager: string, cluster: string | undefined): PeerCalls | undefined {
    const calls = this.#callsAt(manager);
    if (cluster !== undefined) calls?.requireCluster(cluster);
    return calls;
  }
}

/** The lines of a session within the process. */
async function* followOwn(
  calls: PeerCalls,
  peer: Peer,
  { request, signal, heard }: { request: SessionRequest; signal: AbortSignal; heard: () => void },
): AsyncGenerator<unknown> {
  const sink = new OwnSink();
  const sessionId = await calls.openSession(peer, request, sink);
  const close = () => sink.close();
  signal.addEventListener("abort", close);
  try {
    for await (const piece of sink.pieces()) {
      signal.throwIfAborted();
      heard();
      for (const line of piece.toString().trimEnd().split("\n")) yield JSON.parse(line);
    }
  } finally {
    signal.removeEventListener("abort", close);
    calls.closeSession(sessionId);
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

  sendSnapshot(pieces: Iterator<Buffer>): void {
    this.#queue.push(pieces);
    this.#wake();
  }

  close(): void {
    this.#isClosed = true;
    this.#wake();
  }

  /** Ends when the leader has ended the session, or the node has. */
  async *pieces(): AsyncGenerator<Buffer> {
    while (!this.#isClosed) {
      const next = this.#queue.shift();
      if (next === undefined) await this.#more();
      else if ("next" in next) yield* this.#unhurried(next);
      else yield next;
    }
  }

  /** Lets other work of the thread go on between the pieces of a snapshot. */
  async *#unhurried(snapshot: Iterator<Buffer>): AsyncGenerator<Buffer> {
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
