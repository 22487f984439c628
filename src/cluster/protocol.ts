// What the leader and a node's session say to each other: lines down a stream, reports up.
import { z } from "zod";
import { firstOf, list, MAX_REASON, map, words } from "../lib/bounds.ts";
import { check } from "../lib/check.ts";
import { StateVersion } from "./identity.ts";
import type { BucketSets } from "./row-buckets.ts";
import type { Change, Kind, RowOf } from "./schema.ts";
import { Address, ClusterIdentity, HeldPort, Id, MAX_ADDRESSES, MAX_HELD, Node, TaskStatus } from "./schema.ts";
import { NodeVersion } from "./trust-rows.ts";

/** Who a node says that it is. */
export const NodeIdentity = Node.pick({
  name: true,
  address: true,
  vxlanPort: true,
  sealed: true,
  manager: true,
  listen: true,
  advertise: true,
  mesh: true,
});
export type NodeIdentity = z.infer<typeof NodeIdentity>;

/** Characters of one kind's digests. */
const MAX_DIGESTS = 64 * 1024;
/** More kinds of rows than any version has. */
const MAX_KINDS = 100;

/** How a node asks for a session. */
export const SessionRequest = NodeIdentity.extend({
  /**
   * The version of the state that the node follows; null: it has none yet. Code calls it `stateVersion`. Its name between
   * machines stays: agents of every version send it, and recorded sessions (test/golden) have it.
   */
  known: StateVersion.nullable().default(null),
  /** The protocol that the node speaks; 0: that of versions that did not say it. */
  protocol: NodeVersion.shape.protocol.default(0),
  /** What the node can do besides, see features.ts. */
  features: NodeVersion.shape.features.default([]),
  /** Digests of the rows that the node has, see row-buckets.ts: the leader leaves out what is the same. Left out: it has none. */
  has: map(z.string().max(40), z.string().max(MAX_DIGESTS), MAX_KINDS).optional(),
});
export type SessionRequest = z.input<typeof SessionRequest>;

/** Which lines of a task's log. */
export const LogQuery = z.object({
  /** Goes on with what the task prints from now. */
  follow: z.boolean(),
  /** At most so many of the last lines; null: all. */
  tail: z.int().min(0).nullable(),
  /** Only what was printed at or after this time, wall-clock milliseconds; null: all. */
  since: z.number().min(0).nullable(),
  /** How far the task's preparation is, as one text, instead of a log; left out: the log. */
  progress: z.boolean().optional(),
});
export type LogQuery = z.infer<typeof LogQuery>;

/** Why a node cannot bring a log. */
export const LogRefusal = z.object({
  code: z.union([z.literal(400), z.literal(404), z.literal(409)]),
  message: words(MAX_REASON),
});
export type LogRefusal = z.infer<typeof LogRefusal>;

/** Rows of one line at most. */
export const MAX_ROWS = 256;

/**
 * One line of the leader's stream. The first is `session`; the snapshot follows as `snapshot`, its `rows`, and
 * `snapshot-end`; then come changes as they happen. Kinds that only the leader reads (schema.ts) are in none of them.
 */
export type StreamMessage =
  /** `livenessMs`: after that much silence the leader gives the node up; the node gives the leader up earlier. `state`: the identity of the state in the snapshot. `schema`: the form of the rows, see schemaDigest(). `beats`: the leader takes beats, one line with the revision in force each, instead of reports without news; left out: it does not. `awaits`: the leader says for which revisions clients wait; left out: it does not. */
  | {
      type: "session";
      sessionId: string;
      nodeId: string;
      livenessMs: number;
      state: StateVersion;
      schema: string;
      beats?: boolean;
      awaits?: boolean;
    }
  /** `rows`: how many rows the snapshot has. */
  | { type: "snapshot"; revision: number; cluster: ClusterIdentity | null; rows: number }
  | { type: "rows"; kind: Kind; rows: readonly RowOf<Kind>[] }
  /** Rows of these buckets are in the snapshot as the node has them, besides those that came. For nodes whose request said what they have. */
  | { type: "same"; buckets: BucketSets }
  | { type: "snapshot-end" }
  /** `after`: the revision of the changes or snapshot before, which need not be the one below: some revisions hold nothing for nodes. */
  | { type: "changes"; after: number; revision: number; changes: readonly Change[] }
  /** A client waits until the node has the revision in force: the node tells that at once, and what no client waits for later. */
  | { type: "awaited"; revision: number }
  /** The node is to bring the log of one of its tasks. */
  | { type: "log"; requestId: string; taskId: string; query: LogQuery }
  | { type: "alive" };

/**
 * The least time between two reports that only say which revision is in force, while no client waits for it: a report costs
 * a node as much as all else that it does with a change. A node that has been silent for longer tells at once by itself.
 */
export const UNAWAITED_GAP_MS = 1000;

/** The message as a line of the stream. */
export function encodeLine(message: StreamMessage): Buffer {
  return Buffer.from(`${JSON.stringify(message)}\n`);
}

/** Characters of the rows of one line, except where a single row has more: both ends hold a line whole. */
const ROWS_LINE_CHARS = 1024 * 1024;

/** Rows of one kind as lines of the stream: more than one where the rows are many, or large. */
export function encodeRows(kind: Kind, rows: readonly unknown[]): Buffer[] {
  const lines: Buffer[] = [];
  let [texts, chars]: [string[], number] = [[], 0];
  const end = (): void => {
    if (texts.length > 0) lines.push(Buffer.from(`{"type":"rows","kind":"${kind}","rows":[${texts.join(",")}]}\n`));
    [texts, chars] = [[], 0];
  };
  for (const row of rows) {
    const text = JSON.stringify(row);
    if (texts.length === MAX_ROWS || chars + text.length > ROWS_LINE_CHARS) end();
    texts.push(text);
    chars += text.length;
  }
  end();
  return lines;
}

/** The stream as it arrives; rows and changes are checked by state.ts. */
export const StreamLine = z.discriminatedUnion("type", [
  z.object({
    type: z.literal("session"),
    sessionId: Id,
    nodeId: Id,
    livenessMs: z.number().positive(),
    state: StateVersion.optional(),
    schema: z.string().optional(),
    beats: z.boolean().optional(),
    awaits: z.boolean().optional(),
  }),
  z.object({
    type: z.literal("snapshot"),
    revision: z.int().min(0),
    cluster: ClusterIdentity.nullable(),
    rows: z.int().min(0),
  }),
  z.object({ type: z.literal("rows"), kind: z.string(), rows: z.array(z.unknown()).max(MAX_ROWS) }),
  z.object({ type: z.literal("same"), buckets: z.record(z.string(), z.string()) }),
  z.object({ type: z.literal("snapshot-end") }),
  z.object({ type: z.literal("changes"), after: z.int(), revision: z.int(), changes: z.unknown() }),
  z.object({ type: z.literal("awaited"), revision: z.int().min(0) }),
  z.object({ type: z.literal("log"), requestId: Id, taskId: Id, query: LogQuery }),
  z.object({ type: z.literal("alive") }),
]);
export type StreamLine = z.infer<typeof StreamLine>;

const LINE_TYPES: ReadonlySet<unknown> = new Set(StreamLine.options.map(({ shape }) => shape.type.value));

/** The line; undefined: this version does not know its type, and passes it over. Throws ZodError when the line is wrong. */
export function readLine(json: unknown): StreamLine | undefined {
  const { type } = (json ?? {}) as { type?: unknown };
  return typeof type === "string" && !LINE_TYPES.has(type) ? undefined : StreamLine.parse(json);
}

/** What a node tells of itself; sent at each news, and often enough to show that it lives. */
export const Report = z.object({
  /** The report's number, which the node counts up from 1; 0: it does not count. */
  seq: z.int().min(0).default(0),
  /** Statuses that are new or changed; all of them when `full`. */
  statuses: list(TaskStatus, 100_000),
  full: z.boolean(),
  /** Tasks that have left nothing on the node. */
  gone: list(Id, 100_000),
  /** All published ports that the node leaves to processes of its own. */
  heldPorts: firstOf(HeldPort, MAX_HELD).default([]),
  /** All IPv4 addresses of its own links. */
  addresses: firstOf(Address, MAX_ADDRESSES).default([]),
  /** Whether its Docker answers; null: it has not tried yet. */
  docker: z.boolean().nullable().default(null),
  /** The highest revision of this session that is in force in all of the node's data path. */
  applied: z.int().min(0),
});
/** As checked. */
export type Report = z.infer<typeof Report>;

const LooseReport = Report.extend({
  statuses: list(z.unknown(), 100_000),
  heldPorts: z.array(z.unknown()).default([]),
});

/**
 * A report, read as far as this version knows what is in it: an agent of a later version may say more. `unread` are the tasks
 * whose status was not understood. Throws UserError 400 when it is no report.
 */
export function readReport(input: unknown): { report: Report; unread: string[] } {
  const { statuses, heldPorts, ...rest } = check(LooseReport, input);
  const read = statuses.map((json) => TaskStatus.safeParse(json).data);
  const unread = statuses.flatMap((json, i) =>
    read[i] === undefined ? (TaskIdOnly.safeParse(json).data?.taskId ?? "") : [],
  );
  const ports = heldPorts.slice(0, MAX_HELD).flatMap((json) => HeldPort.safeParse(json).data ?? []);
  return { report: { ...rest, statuses: read.filter((status) => status !== undefined), heldPorts: ports }, unread };
}

const TaskIdOnly = z.object({ taskId: Id });

/** As a node may write it. */
export type ReportInput = z.input<typeof Report>;

/** The stream goes on for ever, so this many silent beats are one liveness period. */
export const BEATS_PER_PERIOD = 5;
/** After so many silent beats a node leaves its leader and looks for another one. The leader gives a node a whole period. */
export const SILENT_BEATS = 2;

/** Names the cluster that a request is meant for: a leader of another one refuses it. */
export const CLUSTER_HEADER = "overlayd-cluster";

/** Names whom the caller asks for, where that is not itself. */
export const CALLER_HEADER = "overlayd-on-behalf-of";
