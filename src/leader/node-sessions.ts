// The leader's end of the nodes' sessions: they begin, bring reports and get the changes, and end.
import { type Features, whyNotSpoken } from "../cluster/features.ts";
import { isNewerEpoch, type StateVersion, whyNotAfter } from "../cluster/identity.ts";
import {
  BEATS_PER_PERIOD,
  encodeLine,
  type Report,
  type ReportInput,
  readReport,
  SessionRequest,
} from "../cluster/protocol.ts";
import type { BucketDigests } from "../cluster/row-buckets.ts";
import { type AppliedChange, Draft, schemaDigest } from "../cluster/state.ts";
import { check } from "../lib/check.ts";
import type { Clock } from "../lib/clock.ts";
import { UserError } from "../lib/errors.ts";
import type { Log } from "../lib/log.ts";
import { AliveLines } from "./alive-lines.ts";
import type { AppliedBarrier } from "./applied-barrier.ts";
import { Complaints } from "./complaints.ts";
import type { LeaderContext } from "./context.ts";
import type { NodeHealth } from "./node-health.ts";
import { beginSession } from "./nodes.ts";
import type { Progress } from "./progress.ts";
import type { Reconciler } from "./reconciler.ts";
import { applyReport } from "./reports.ts";
import { type ChangeLines, heldSecrets } from "./secrets.ts";
import type { NodeSession, SessionPeer, SessionSink, Sessions } from "./sessions.ts";
import { SharedSnapshots } from "./snapshot-lines.ts";
import type { StateWriter } from "./state-writer.ts";
import type { Term } from "./term.ts";

interface NodeSessionsOptions {
  term: Term;
  writer: StateWriter;
  reconciler: Reconciler;
  progress: Progress;
  barrier: AppliedBarrier;
  sessions: Sessions;
  health: NodeHealth;
  clock: Clock;
  log: Log;
  newId: () => string;
  features: Features;
  livenessMs(): number;
  context: () => LeaderContext;
  /** See LeaderConfig. */
  heardOfNewerEpoch?: (() => void) | undefined;
}

export class NodeSessions {
  readonly #options: NodeSessionsOptions;
  readonly #snapshots = new SharedSnapshots();
  readonly #complaints: Complaints;
  readonly #alive: AliveLines;

  constructor(options: NodeSessionsOptions) {
    const { clock, log, sessions, writer, livenessMs } = options;
    this.#options = options;
    this.#alive = new AliveLines(clock, sessions, () => livenessMs() / BEATS_PER_PERIOD);
    this.#complaints = new Complaints(log, () => writer.state);
  }

  /** How many statuses of tasks it has not taken over, for they were not their node's own. */
  get refusedStatuses(): number {
    return this.#complaints.refusedStatuses;
  }

  /** The leader begins: nodes hear that it lives. */
  begin(): void {
    this.#alive.begin();
  }

  /** `livenessMs` is another one. */
  paceChanged(): void {
    this.#alive.begin();
  }

  /** Ends all sessions. */
  end(): void {
    this.#alive.end();
    for (const { sink } of this.#options.sessions.all()) sink.close();
    this.#options.sessions.clear();
  }

  /** Begins a node's session, and returns its id: the sink gets the snapshot, then each change. Throws UserError. */
  async open({ id: nodeId, from = null }: SessionPeer, input: SessionRequest, sink: SessionSink): Promise<string> {
    const { term, writer, features: all, newId, context, log, heardOfNewerEpoch } = this.#options;
    term.requireLeading();
    const { known, protocol, features, has, ...identity } = check(SessionRequest, input);
    if (known !== null && isNewerEpoch(known, writer.state.cluster!)) heardOfNewerEpoch?.();
    const reason = whyNotSpoken(protocol) ?? (known === null ? undefined : whyNotAfter(known, this.#sentVersion()));
    if (reason !== undefined) {
      this.#complaints.foreign(identity.name, reason);
      throw new UserError(409, reason);
    }
    const id = newId();
    const version = { protocol, features };
    await writer.run(
      (draft) => beginSession(draft, nodeId, { identity, version, from }, context()),
      () => this.#begin({ id, nodeId, sink, lacking: all.lackingOf(features) }, has),
    );
    log.info("a node's session began", { node: identity.name, address: identity.address });
    return id;
  }

  /** The id of the node whose session it is; undefined: it is over. */
  nodeOf(sessionId: string): string | undefined {
    return this.#options.sessions.get(sessionId)?.nodeId;
  }

  /** The stream is gone. The node is judged by its silence, not by this. */
  close(sessionId: string): void {
    const session = this.#options.sessions.get(sessionId);
    if (session !== undefined) this.#remove(session);
  }

  /** Throws UserError 404 when the session is over. */
  async report(sessionId: string, input: ReportInput): Promise<void> {
    const { sessions, writer, health } = this.#options;
    const begun = sessions.get(sessionId);
    // A report that the leader does not understand counts too: the node lives.
    if (begun !== undefined) health.heard(begun.nodeId);
    const { report, unread } = readReport(input);
    const session = sessions.require(sessionId);
    // An earlier report that was held up on its way knows less than the ones after it.
    if (report.seq !== 0 && report.seq <= session.seq) return;
    session.seq = Math.max(session.seq, report.seq);
    const applied = Math.min(report.applied, writer.sentRevision);
    this.#complaints.refused(session, await this.#take(session, report, unread));
    this.#complaints.unread(session, unread.length);
    // It may have ended meanwhile.
    if (sessions.get(sessionId) === session) await this.#note(session, applied, report.full);
  }

  /** A report without news. Throws UserError 404 when the session is over. */
  beat(sessionId: string, revision: number): void {
    const { sessions, writer, health, log } = this.#options;
    const session = sessions.require(sessionId);
    health.heard(session.nodeId);
    this.#note(session, Math.min(revision, writer.sentRevision), false).catch((error: unknown) => {
      log.error("what waited for a node cannot be completed", { err: error });
    });
  }

  /** The state has changed: the nodes get its lines. */
  committed(changes: readonly AppliedChange[], lines: ChangeLines): void {
    const { sessions, progress, barrier, reconciler, writer, log } = this.#options;
    this.#snapshots.changed(changes);
    if (!lines.isEmpty) {
      for (const session of sessions.all()) session.sink.send(lines.of(session)!);
      this.#alive.sent();
    }
    for (const { kind, key } of changes) if (kind === "nodes") progress.update(key, sessions.of(key)?.applied ?? 0);
    barrier.check();
    if (!reconciler.isDue) return;
    writer
      .run(() => {})
      .catch((error: unknown) => log.error("what waited for nodes cannot be completed", { err: error }));
  }

  /** The node is removed from the cluster. */
  forget(nodeId: string): void {
    this.#options.health.forget(nodeId);
    this.#endOf(nodeId);
  }

  /** The node is down: it has left the cluster, or is lost. */
  down(nodeId: string): void {
    this.#endOf(nodeId);
    this.#options.health.down(nodeId);
  }

  #begin(begun: Pick<NodeSession, "id" | "nodeId" | "sink" | "lacking">, has: BucketDigests | undefined): void {
    const { id, nodeId, sink, lacking } = begun;
    const { sessions, writer, health, livenessMs } = this.#options;
    this.#endOf(nodeId);
    health.heard(nodeId);
    sessions.add(begun);
    const opening = {
      sessionId: id,
      nodeId,
      livenessMs: livenessMs(),
      state: this.#sentVersion(),
      schema: schemaDigest(),
      beats: true,
      awaits: true,
    };
    sink.send(encodeLine({ type: "session", ...opening }));
    // A node that loads shows that it lives, though it reports nothing yet.
    const onTaken = () => health.heard(nodeId);
    const held = heldSecrets(nodeId, writer.state);
    sink.sendSnapshot(this.#snapshots.linesFor(writer.state, writer.sentRevision, { held, lacking, has, onTaken }));
  }

  /**
   * Takes over what a report says of the node and its tasks. Most reports say nothing new and cost no turn. Returns how
   * many statuses were refused.
   */
  async #take(session: NodeSession, report: Report, unread: readonly string[]): Promise<number> {
    const { writer, sessions } = this.#options;
    const { id, nodeId } = session;
    if (session.pending === 0) {
      const draft = new Draft(writer.state);
      const refused = applyReport(draft, nodeId, report, unread);
      if (draft.changes.length === 0) return refused;
    }
    session.pending++;
    try {
      const { value } = await writer.run((draft) => {
        sessions.require(id);
        return applyReport(draft, nodeId, report, unread);
      });
      return value;
    } finally {
      session.pending--;
    }
  }

  /** Keeps how far the node is, and takes a turn when something waited for that. */
  async #note(session: NodeSession, applied: number, full: boolean): Promise<void> {
    const { writer, reconciler, progress, barrier, sessions, health } = this.#options;
    const { nodeId } = session;
    if (full && !session.reported) {
      session.reported = true;
      reconciler.lookAt(nodeId);
    }
    sessions.told(session, applied);
    progress.set(nodeId, session.applied);
    health.note(nodeId, session.applied, writer.sentRevision);
    barrier.check();
    const shown = writer.state.nodes.get(nodeId)?.health;
    const isJudgedAnew = shown !== undefined && shown !== health.of(nodeId);
    if (isJudgedAnew || reconciler.isDue) await writer.run((draft) => health.record(draft, [nodeId]));
  }

  #endOf(nodeId: string): void {
    const session = this.#options.sessions.of(nodeId);
    if (session === undefined) return;
    this.#remove(session);
    session.sink.close();
  }

  #remove(session: NodeSession): void {
    this.#options.sessions.remove(session);
    this.#options.progress.set(session.nodeId, 0);
  }

  #sentVersion(): StateVersion {
    const { state, sentRevision } = this.#options.writer;
    return { ...state.cluster!, revision: sentRevision };
  }
}
