// What comes to the leader from elsewhere: each call is checked against who calls, and each write leaves a line in the log.
import type { Readable } from "node:stream";
import { Command, type CommandInput, type CommandResult } from "../cluster/commands.ts";
import type { LogQuery, LogRefusal, ReportInput, SessionRequest } from "../cluster/protocol.ts";
import { check } from "../lib/check.ts";
import type { Clock } from "../lib/clock.ts";
import { UserError } from "../lib/errors.ts";
import type { Log } from "../lib/log.ts";
import { logWrite } from "./audit.ts";
import { type Caller, isTrusted, type Peer, requireCaller, requireMay, requireNode } from "./authority.ts";
import { HeldBackError } from "./ipam.ts";
import type { Leader } from "./leader.ts";
import type { SessionSink } from "./sessions.ts";
import { ShownCertificates } from "./shown-certificates.ts";

interface PeerCallsOptions {
  leader: Leader;
  clock: Clock;
  log: Log;
}

/** Every call throws UserError, 401 or 403 when the caller may not have it. */
export class PeerCalls {
  readonly #leader: Leader;
  readonly #clock: Clock;
  readonly #log: Log;
  readonly #shown: ShownCertificates;

  constructor({ leader, clock, log }: PeerCallsOptions) {
    this.#leader = leader;
    this.#clock = clock;
    this.#log = log;
    this.#shown = new ShownCertificates(leader, log);
  }

  /** `by`: on whose behalf the peer asks, as it says; left out: its own. */
  execute(peer: Peer, input: CommandInput, by?: string): Promise<CommandResult> {
    const command = check(Command, input);
    return logWrite(this.#log, { peer, by, command }, async () => {
      const { state } = this.#leader;
      requireMay(state, this.#caller(peer), command);
      return this.#executeWhenFree(command);
    });
  }

  /** A command that lacks an address which was released a moment ago waits until that is free. */
  async #executeWhenFree(command: Command): Promise<CommandResult> {
    try {
      return await this.#leader.executeChecked(command);
    } catch (error) {
      if (!(error instanceof HeldBackError)) throw error;
      await this.#leader.waitFree(error.releasedAt);
      return this.#leader.executeChecked(command);
    }
  }

  async openSession({ subject, from }: Peer, request: SessionRequest, sink: SessionSink): Promise<string> {
    const { id } = requireNode(this.#leader.state, subject, this.#clock.now());
    return this.#leader.sessions.open({ id, from }, request, sink);
  }

  closeSession(sessionId: string): void {
    this.#leader.sessions.close(sessionId);
  }

  async report(peer: Peer, sessionId: string, report: ReportInput): Promise<void> {
    this.#requireOwn(peer, sessionId);
    this.#shown.note(peer);
    return this.#leader.sessions.report(sessionId, report);
  }

  beat(peer: Peer, sessionId: string, applied: number): void {
    this.#requireOwn(peer, sessionId);
    this.#shown.note(peer);
    this.#leader.sessions.beat(sessionId, applied);
  }

  bringLog(peer: Peer, sessionId: string, requestId: string, log: Readable): void {
    this.#requireOwn(peer, sessionId);
    this.#leader.logs.bring(sessionId, requestId, log);
  }

  refuseLog(peer: Peer, sessionId: string, requestId: string, refusal: LogRefusal): void {
    this.#requireOwn(peer, sessionId);
    this.#leader.logs.refuse(sessionId, requestId, refusal);
  }

  /** A log may say anything, so a worker reads those of its own tasks, and of others only how far they are prepared. */
  async readLog(peer: Peer, taskId: string, query: LogQuery): Promise<Readable> {
    const { state } = this.#leader;
    const caller = this.#caller(peer);
    const isOwn = state.tasks.get(taskId)?.nodeId === caller.row.id;
    if (!isOwn && query.progress !== true && !isTrusted(state, caller)) {
      throw new UserError(
        403,
        `node '${caller.row.name}' is a worker and reads logs of its own tasks: read this one on a manager`,
      );
    }
    return this.#leader.logs.read(taskId, query);
  }

  async waitApplied(peer: Peer, revision: number, timeoutMs: number): Promise<string[]> {
    this.#caller(peer);
    return this.#leader.waitApplied(revision, timeoutMs);
  }

  requireLeading(peer: Peer): void {
    this.#caller(peer);
    this.#leader.requireLeading();
  }

  requireCluster(id: string): void {
    this.#leader.requireCluster(id);
  }

  #caller({ subject }: Peer): Caller {
    return requireCaller(this.#leader.state, subject, this.#clock.now());
  }

  /** A session that is over passes: the leader says so. */
  #requireOwn({ subject }: Peer, sessionId: string): void {
    const { id, name } = requireNode(this.#leader.state, subject, this.#clock.now());
    const owner = this.#leader.sessions.nodeOf(sessionId);
    if (owner !== undefined && owner !== id) {
      throw new UserError(403, `node '${name}' cannot speak for another node: the session is not its own`);
    }
  }
}
