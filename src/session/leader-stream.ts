// One stream from a leader, from its beginning to its end: what comes is checked, and handed on only when it is whole and
// follows on what came before. Whatever else comes ends the stream, and the node asks for a new one. Rows of a leader that
// gives them this build's form are taken as they are: to check each would take more than all else that a node does with it.
import { type StateVersion, versionOf, whyNotAfter } from "../cluster/identity.ts";
import { settingsOf } from "../cluster/lookup.ts";
import { BEATS_PER_PERIOD, readLine, type SessionRequest, SILENT_BEATS, type StreamLine } from "../cluster/protocol.ts";
import type { Change } from "../cluster/schema.ts";
import { checkedRow, type LiveState, schemaDigest, uncheckedRow } from "../cluster/state.ts";
import type { State } from "../cluster/tables.ts";
import { MAX_WORD } from "../lib/bounds.ts";
import type { Clock, Timer } from "../lib/clock.ts";
import type { Log } from "../lib/log.ts";
import { changesFrom, IncomingSnapshot } from "./snapshot-stream.ts";
import type { Transport } from "./transport.ts";

/** Until the leader has said how often it is heard. */
const FIRST_SILENCE_MS = 10_000;

export type Opening = Extract<StreamLine, { type: "session" }>;
export type LogLine = Extract<StreamLine, { type: "log" }>;

interface StreamOptions {
  transport: Pick<Transport, "open">;
  clock: Clock;
  log: Log;
  /** HOST:PORT. */
  manager: string;
  request: Omit<SessionRequest, "known">;
  /** The node's state, to which the listener applies what comes. */
  state: State;
  /** The version of that state; undefined: there is none yet. */
  stateVersion: StateVersion | undefined;
  listener: StreamListener;
}

interface StreamListener {
  /** The first snapshot is whole. */
  begins(opening: Opening, snapshot: LiveState): void;
  changes(changes: readonly Change[], revision: number): void;
  /** A client waits until this node has the revision in force. */
  awaits(revision: number): void;
  asksForLog(sessionId: string, line: LogLine): void;
}

export class LeaderStream {
  readonly #options: StreamOptions;
  readonly #abort = new AbortController();
  #silenceMs = FIRST_SILENCE_MS;
  #watchdog: Timer | undefined;
  #opening: Opening | undefined;
  #snapshot: IncomingSnapshot | undefined;
  #hasBegun = false;
  #rowOf = checkedRow;
  #hasPassedOver = false;

  constructor(options: StreamOptions) {
    this.#options = options;
  }

  /** Resolves at its end. Throws the reason when it did not end by itself. */
  async follow(): Promise<void> {
    const { transport, manager, request, stateVersion } = this.#options;
    const { signal } = this.#abort;
    this.#heard();
    try {
      const asked = { ...request, known: stateVersion ?? null };
      for await (const json of transport.open(manager, asked, signal, () => this.#heard())) {
        const line = readLine(json);
        if (line === undefined) this.#passOver(json as { type: string });
        else this.#take(line);
      }
      if (this.#snapshot !== undefined) throw new Error("the stream ended before its snapshot did");
    } catch (error) {
      throw signal.aborted ? signal.reason : error;
    } finally {
      this.#watchdog?.cancel();
    }
  }

  end(reason: Error): void {
    this.#abort.abort(reason);
  }

  /** Bytes have come. A large snapshot on a slow link takes longer than the leader may be silent, and so may one line of it. */
  #heard(): void {
    this.#watchdog?.cancel();
    const silenceMs = this.#silenceMs;
    this.#watchdog = this.#options.clock.after(silenceMs, () => this.end(new Error(`no word for ${silenceMs} ms`)));
  }

  /** A leader of a later version says what this version need not know. Once a stream: it may say so often. */
  #passOver({ type }: { type: string }): void {
    if (this.#hasPassedOver) return;
    this.#hasPassedOver = true;
    this.#options.log.debug(
      `passes over lines '${type.slice(0, MAX_WORD)}' of the leader, which this version does not know`,
    );
  }

  #take(line: StreamLine): void {
    const { state, listener } = this.#options;
    switch (line.type) {
      case "session":
        this.#open(line);
        break;
      case "snapshot":
        if (this.#opening === undefined) throw new Error("the stream has a snapshot before its session");
        this.#snapshot = new IncomingSnapshot(line, state, this.#rowOf);
        break;
      case "rows":
        if (this.#snapshot === undefined) throw new Error("the stream has rows before its snapshot");
        this.#snapshot.add(line.kind, line.rows);
        break;
      case "same":
        if (this.#snapshot === undefined) throw new Error("the stream has kept rows before its snapshot");
        this.#snapshot.keep(line.buckets);
        break;
      case "snapshot-end":
        if (this.#snapshot === undefined) throw new Error("the stream has no snapshot to end");
        this.#begin(this.#snapshot.finish());
        break;
      case "changes":
        if (!this.#hasBegun || this.#snapshot !== undefined) throw new Error("the stream has changes before its state");
        this.#takeChanges(changesFrom(state, line, this.#rowOf), line.revision);
        break;
      case "awaited":
        listener.awaits(line.revision);
        break;
      case "log":
        if (this.#opening !== undefined) listener.asksForLog(this.#opening.sessionId, line);
        break;
      case "alive":
        break;
    }
  }

  #takeChanges(changes: readonly Change[], revision: number): void {
    const { state, listener } = this.#options;
    listener.changes(changes, revision);
    if (changes.some(({ kind }) => kind === "settings")) this.#tolerate(settingsOf(state)?.livenessMs);
  }

  #open(line: Opening): void {
    const { stateVersion } = this.#options;
    // The leader refuses too, where it knows how; this node does not rely on it.
    const refusal = stateVersion && line.state && whyNotAfter(stateVersion, line.state);
    if (refusal !== undefined) throw new Error(refusal);
    this.#opening = line;
    this.#rowOf = line.schema === schemaDigest() ? uncheckedRow : checkedRow;
    this.#tolerate(line.livenessMs);
  }

  /** The leader beats so often that it is heard several times in `livenessMs`; undefined: as before. */
  #tolerate(livenessMs: number | undefined): void {
    if (livenessMs === undefined) return;
    this.#silenceMs = (livenessMs / BEATS_PER_PERIOD) * SILENT_BEATS;
    this.#heard();
  }

  #begin(snapshot: LiveState): void {
    const { stateVersion, listener } = this.#options;
    const offered = versionOf(snapshot);
    const refusal =
      stateVersion && (offered === undefined ? "its state belongs to no cluster" : whyNotAfter(stateVersion, offered));
    if (refusal !== undefined) throw new Error(refusal);
    this.#snapshot = undefined;
    this.#hasBegun = true;
    listener.begins(this.#opening!, snapshot);
  }
}
