// The nodes as the leader hears and judges them: sessions begin, report and end; a node that is silent is lost.

import type { z } from "zod";
import { type Features, whyNotSpoken } from "../cluster/features.ts";
import { type StateVersion, whyNotAfter } from "../cluster/identity.ts";
import {
  BEATS_PER_PERIOD,
  encodeLine,
  type Report,
  type ReportInput,
  readReport,
  type SessionRequest,
} from "../cluster/protocol.ts";
import type { BucketDigests } from "../cluster/row-buckets.ts";
import { type AppliedChange, Draft, schemaDigest } from "../cluster/state.ts";
import type { Clock, Timer } from "../lib/clock.ts";
import { UserError } from "../lib/errors.ts";
import type { Log } from "../lib/log.ts";
import { AliveLines } from "./alive-lines.ts";
import type { AppliedBarrier } from "./applied-barrier.ts";
import { Complaints } from "./complaints.ts";
import type { LeaderContext } from "./context.ts";
import { NodeHealth } from "./node-health.ts";
import { applyReport, beginSession } from "./nodes.ts";
import type { Progress } from "./progress.ts";
import type { Reconciler } from "./reconciler.ts";
import { type ChangeLines, heldSecrets } from "./secrets.ts";
import type { NodeSession, SessionPeer, SessionSink, Sessions } from "./sessions.ts";
import { SharedSnapshots } from "./snapshot-lines.ts";
import type { StateWriter } from "./state-writer.ts";

interface NodeSessionsOptions {
  writer: StateWriter;
  reconciler: Reconciler;
  progress: Progress;
  barrier: AppliedBarrier;
  sessions: Sessions;
  clock: Clock;
  log: Log;
  newId: () => string;
  features: Features;
  /** A node whose session is silent for longer is down. */
  livenessMs(): number;
  context: () => LeaderContext;
}

export class NodeSessions {
  readonly #options: NodeSessionsOptions;
  readonly #snapshots = new SharedSnapshots();
  readonly #complaints: Complaints;
  #health: NodeHealth;
  #beat: Timer | undefined;
  readonly #alive: AliveLines;

  constructor(options: NodeSessionsOptions) {
    this.#options = options;
    this.#health = new NodeHealth(options.clock, options.livenessMs);
    this.#alive = new AliveLines(options.clock, options.sessions, () => this.#beatMs);
    this.#complaints = new Complaints(options.log, () => options.writer.state);
  }

  /** How many statuses of tasks it has not taken over, for they were not their node's own. */
  get refusedStatuses(): number {
    return this.#complaints.refusedStatuses;
  }

  /** The leader begins: silence counts from now. */
  begin(): void {
    const { clock, livenessMs, progress, writer } = this.#options;
    const expected = writer.state.nodes.by("state", "ready").map(({ id }) => id);
    this.#health = new NodeHealth(clock, livenessMs, expected);
    progress.begin();
    this.#scheduleBeat();
    this.#alive.begin();
  }

  /** Ends all sessions. */
  end(): void {
    this.#beat?.cancel();
    this.#alive.end();
    for (const { sink } of this.#options.sessions.all()) sink.close();
    this.#options.sessions.clear();
  }

  /** Whether the node has been silent for longer than the leader tolerates. */
  isSilent(nodeId: string): boolean {
    return this.#health.silent(nodeId);
  }

  /** Begins a node's session, and returns its id. Throws UserError. */
  async open(
    { id: nodeId, from = null }: SessionPeer,
    request: z.output<typeof SessionRequest>,
    sink: SessionSink,
  ): Promise<string> {
    const { writer, newId, context, log } = this.#options;
    const { known: stateVersion, protocol, features, has, ...identity } = request;
    const reason =
      whyNotSpoken(protocol) ?? (stateVersion === null ? undefined : whyNotAfter(stateVersion, this.#sentVersion()));
    if (reason !== undefined) {
      this.#complaints.foreign(identity.name, reason);
      throw new UserError(409, reason);
    }
    const id = newId();
    const version = { protocol, features };
    await writer.run(
      (draft) => beginSession(draft, nodeId, { identity, version, from }, context()),
      () => this.#begin({ id, nodeId, sink, lacking: this.#options.features.lackingOf(features) }, has),
    );
    log.info("a node's session began", { node: identity.name, address: identity.address });
    return id;
  }

  /** The stream is gone. The node is judged by its silence, not by this. */
  close(sessionId: string): void {
    const session = this.#options.sessions.get(sessionId);
    if (session !== undefined) this.#remove(session);
  }

  /** Throws UserError 404 when the session is over. */
  async report(sessionId: string, input: ReportInput): Promise<void> {
    const { sessions, writer } = this.#options;
    const begun = sessions.get(sessionId);
    // A report that the leader does not understand counts too: the node lives.
    if (begun !== undefined) this.#health.heard(begun.nodeId);
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
    const { sessions, writer, log } = this.#options;
    const session = sessions.require(sessionId);
    this.#health.heard(session.nodeId);
    this.#note(session, Math.min(revision, writer.sentRevision), false).catch((error: unknown) => {
      log.error("what waited for a node cannot be completed", { err: error });
    });
  }

  /** The state has changed: the nodes get its lines. */
  committed(changes: readonly AppliedChange[], lines: ChangeLines): void {
    const { sessions, progress, reconciler, barrier } = this.#options;
    this.#snapshots.changed(changes);
    if (!lines.isEmpty) {
      for (const session of sessions.all()) session.sink.send(lines.of(session)!);
      this.#alive.sent();
    }
    if (this.#beat !== undefined && changes.some(({ kind }) => kind === "settings")) {
      this.#beatNow();
      this.#alive.begin();
    }
    for (const { kind, key } of changes) if (kind === "nodes") progress.update(key, sessions.of(key)?.applied ?? 0);
    barrier.check();
    if (reconciler.isDue) this.#takeTurn("what waited for nodes cannot be completed");
  }

  /** The node is removed from the cluster. */
  forget(nodeId: string): void {
    this.#health.forget(nodeId);
    this.#endSessionOf(nodeId);
  }

  /** The node has said that it leaves the cluster. */
  left(nodeId: string): void {
    this.#endSessionOf(nodeId);
    this.#health.down(nodeId);
  }

  #begin(begun: Pick<NodeSession, "id" | "nodeId" | "sink" | "lacking">, has: BucketDigests | undefined): void {
    const { id, nodeId, sink, lacking } = begun;
    const { sessions, writer } = this.#options;
    const livenessMs = this.#options.livenessMs();
    this.#endSessionOf(nodeId);
    this.#health.heard(nodeId);
    sessions.add(begun);
    const opening = {
      sessionId: id,
      nodeId,
      livenessMs,
      state: this.#sentVersion(),
      schema: schemaDigest(),
      beats: true,
      awaits: true,
    };
    sink.send(encodeLine({ type: "session", ...opening }));
    // A node that loads shows that it lives, though it reports nothing yet.
    const heard = () => this.#health.heard(nodeId);
    const held = heldSecrets(nodeId, writer.state);
    sink.sendSnapshot(
      this.#snapshots.linesFor(writer.state, writer.sentRevision, { held, lacking, has, onTaken: heard }),
    );
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
    const { writer, reconciler, progress, barrier, sessions } = this.#options;
    const { nodeId } = session;
    if (full && !session.reported) {
      session.reported = true;
      reconciler.lookAt(nodeId);
    }
    sessions.told(session, applied);
    progress.set(nodeId, session.applied);
    this.#health.note(nodeId, session.applied, writer.sentRevision);
    barrier.check();
    const health = writer.state.nodes.get(nodeId)?.health;
    const isJudgedAnew = health !== undefined && health !== this.#health.of(nodeId);
    if (isJudgedAnew || reconciler.isDue) await writer.run((draft) => this.#putHealth(draft, [nodeId]));
  }

  #putHealth(draft: Draft, nodeIds: readonly string[]): void {
    for (const nodeId of nodeIds) {
      const node = draft.state.nodes.get(nodeId);
      const health = this.#health.of(nodeId);
      if (node?.state !== "ready" || health === node.health) continue;
      draft.put("nodes", { ...node, health });
      if (health === "behind" || health === "stuck") {
        this.#options.log.warn("a node does not put the newest state in force", { node: node.name, reason: health });
      }
    }
  }

  get #beatMs(): number {
    return this.#options.livenessMs() / BEATS_PER_PERIOD;
  }

  #scheduleBeat(): void {
    this.#beat = this.#options.clock.after(this.#beatMs, () => this.#beatNow());
  }

  #beatNow(): void {
    this.#beat?.cancel();
    this.#scheduleBeat();
    this.#judge();
  }

  /** Finds lost nodes, and those whose health is another one. Loops over the nodes, once a beat. */
  #judge(): void {
    const { writer, sessions, log, reconciler } = this.#options;
    const ready = writer.state.nodes.by("state", "ready");
    const { lost, isNewlySuspended } = this.#health.judge(ready.map(({ id }) => id));
    if (isNewlySuspended) log.warn("most nodes are silent at once; none is judged");
    for (const { id } of ready) this.#health.note(id, sessions.of(id)?.applied ?? 0, writer.sentRevision);
    const judged = ready.filter(({ id, health }) => health !== this.#health.of(id)).map(({ id }) => id);
    if (lost.length === 0 && judged.length === 0 && !reconciler.isDraining && !reconciler.isDue) return;
    this.#takeTurn("cannot record lost nodes", lost, judged);
  }

  #takeTurn(failure: string, lost: readonly string[] = [], judged: readonly string[] = []): void {
    const { writer, log } = this.#options;
    const work = (draft: Draft) => {
      const nodes = lost.filter((id) => this.#health.silent(id)).map((id) => draft.state.nodes.get(id));
      const down = nodes.filter((node) => node !== undefined);
      for (const node of down) draft.put("nodes", { ...node, state: "down", health: "well" });
      this.#putHealth(draft, judged);
      return down;
    };
    const turn = writer.run(work, (down) => {
      for (const { id, name, address } of down) {
        log.warn("a node is down: its session is lost", { node: name, address });
        this.#endSessionOf(id);
        this.#health.down(id);
      }
    });
    turn.catch((error: unknown) => log.error(failure, { err: error }));
  }

  #endSessionOf(nodeId: string): void {
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
