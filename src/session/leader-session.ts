// One session with a leader: the state comes down its stream, what this node has to tell goes up, until the stream ends.
import { featuresOf, PROTOCOL } from "../cluster/features.ts";
import { versionOf } from "../cluster/identity.ts";
import { settingsOf } from "../cluster/lookup.ts";
import { BEATS_PER_PERIOD, type NodeIdentity } from "../cluster/protocol.ts";
import type { BucketDigests } from "../cluster/row-buckets.ts";
import type { Change } from "../cluster/schema.ts";
import type { LiveState } from "../cluster/state.ts";
import type { Clock } from "../lib/clock.ts";
import { messageOf, UserError } from "../lib/errors.ts";
import type { Log } from "../lib/log.ts";
import type { KeptState } from "./kept-state.ts";
import { LeaderStream, type Opening } from "./leader-stream.ts";
import type { OwnLogs } from "./own-logs.ts";
import type { Reporter, ReportLink } from "./reporter.ts";
import type { StateFeed } from "./state-feed.ts";
import type { Transport } from "./transport.ts";

interface LeaderSessionOptions {
  identity: NodeIdentity;
  /** HOST:PORT. */
  manager: string;
  /** Digests of what the feed has; undefined: it has no state yet. */
  has: BucketDigests | undefined;
  feed: StateFeed;
  kept: KeptState;
  reporter: Reporter;
  ownLogs: OwnLogs;
  transport: Transport;
  clock: Clock;
  log: Log;
  /** The first snapshot is whole, and will be in the feed next. `nodeId` is this node's. */
  begun(nodeId: string): void;
  /** The leader has taken a report. */
  reported(): void;
}

export class LeaderSession {
  readonly #options: LeaderSessionOptions;
  readonly #stream: LeaderStream;
  #nodeId: string | undefined;
  /** Clients wait for revisions up to this one, as the leader says; Infinity: it does not say. */
  #awaited = Number.POSITIVE_INFINITY;

  constructor(options: LeaderSessionOptions) {
    const { identity, manager, has, feed, ownLogs, transport, clock, log } = options;
    this.#options = options;
    this.#stream = new LeaderStream({
      ...{ transport, clock, log, manager },
      request: { ...identity, protocol: PROTOCOL, features: featuresOf(identity), ...(has && { has }) },
      state: feed.live,
      stateVersion: feed.hasState ? versionOf(feed.live) : undefined,
      listener: {
        begins: (opening, snapshot) => this.#begin(opening, snapshot),
        changes: (changes, revision) => this.#advance(changes, revision),
        awaits: (revision) => this.#await(revision),
        asksForLog: (sessionId, line) => void ownLogs.bring(manager, sessionId, line),
      },
    });
  }

  /** Resolves at its end. Throws the reason when the stream did not end by itself. */
  async follow(): Promise<void> {
    try {
      await this.#stream.follow();
    } finally {
      this.#options.reporter.detach();
    }
  }

  end(reason: Error): void {
    this.#stream.end(reason);
  }

  #begin(opening: Opening, snapshot: LiveState): void {
    const { manager, feed, kept, reporter, log, begun } = this.#options;
    const { nodeId, awaits } = opening;
    // Clients that wait already wait for no later revision than that of the snapshot.
    this.#awaited = awaits === true ? snapshot.revision : Number.POSITIVE_INFINITY;
    log.info("has a session with the leader", { address: manager, revision: snapshot.revision });
    this.#nodeId = nodeId;
    begun(nodeId);
    reporter.attach(this.#linkOf(opening));
    feed.takeSnapshot(snapshot, (changes) => kept.changed(nodeId, changes));
    kept.replaced();
    reporter.setApplied(feed.applied);
  }

  /** The way up to the leader. */
  #linkOf({ sessionId, livenessMs, beats }: Opening): ReportLink {
    const { manager, feed, reporter, transport, log, reported } = this.#options;
    return {
      send: async (report, signal) => {
        await transport.report(manager, sessionId, report, signal);
        reported();
      },
      beats: beats === true ? transport.beats(manager, sessionId, () => reporter.retell()) : undefined,
      beatMs: () => (settingsOf(feed.live)?.livenessMs ?? livenessMs) / BEATS_PER_PERIOD,
      awaited: () => (this.#isDraining ? Number.POSITIVE_INFINITY : this.#awaited),
      failed: (error) => {
        log.warn("the leader did not take a report", { address: manager, reason: messageOf(error) });
        if (error instanceof UserError && error.code === 404) this.end(error);
      },
    };
  }

  #advance(changes: readonly Change[], revision: number): void {
    const { feed, kept, reporter } = this.#options;
    feed.advance(changes, revision, (applied) => kept.changed(this.#nodeId!, applied));
    reporter.setApplied(feed.applied);
  }

  #await(revision: number): void {
    this.#awaited = Math.max(this.#awaited, revision);
    this.#options.reporter.awaitedChanged();
  }

  /** Whether tasks wait for every node to send nothing new to them. */
  get #isDraining(): boolean {
    return this.#options.feed.live.tasks.count("todo", "draining") > 0;
  }
}
