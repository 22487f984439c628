// Who may have what of the leader. A manager and a user may do all. A worker speaks for itself: a stolen worker's
// certificate must not be worth a manager's, where a service can run any program.
import type { X509Certificate } from "node:crypto";
import type { Command } from "../cluster/commands.ts";
import { settingsOf } from "../cluster/lookup.ts";
import type { Node } from "../cluster/schema.ts";
import type { State } from "../cluster/tables.ts";
import type { User } from "../cluster/trust-rows.ts";
import { UserError } from "../lib/errors.ts";
import type { Subject } from "../trust/certificates.ts";

/** Who calls the leader, and from where. */
export interface Peer {
  /** As its certificate says. */
  readonly subject: Subject;
  /** The address that its connection comes from; null: this process. */
  readonly from: string | null;
  /** What its connection showed; left out: there is no connection. */
  readonly certificate?: X509Certificate;
}

/** Who calls, as the state has it. */
export type Caller = { kind: "node"; row: Node } | { kind: "user"; row: User };

const ELSEWHERE = "run this on a manager, or with a user's certificate ('overlayctl user add', 'overlayctl --context')";

/**
 * The row of who calls at `now`, wall-clock milliseconds: it decides what the caller may do. Throws UserError 401 when there
 * is none, for it was removed, and when its newest certificate has expired.
 */
export function requireCaller({ nodes, users, cluster }: State, subject: Subject, now: number): Caller {
  const { kind, id, name, clusterId } = subject;
  if (cluster !== null && clusterId !== cluster.id) {
    throw new UserError(
      401,
      `the certificate of ${kind} '${name}' is of another cluster (${clusterId}) than this (${cluster.id})`,
    );
  }
  const row = kind === "node" ? nodes.get(id) : users.get(id);
  if (row === undefined) {
    throw new UserError(
      401,
      `the certificate of ${kind} '${name}' is revoked: the ${kind} was removed from the cluster`,
    );
  }
  const expires = "expires" in row ? row.expires : row.certificateExpires;
  if (expires !== null && expires <= now) {
    throw new UserError(401, `the certificate of ${kind} '${name}' has expired (${new Date(expires).toISOString()})`);
  }
  return { kind, row } as Caller;
}

/** Throws UserError 403 when the peer is no node. */
export function requireNode(state: State, subject: Subject, now: number): Node {
  const { kind, row } = requireCaller(state, subject, now);
  if (kind === "node") return row;
  throw new UserError(403, `user '${row.name}' is no node`);
}

/** Throws UserError 403 when the peer is no manager's node. */
export function requireManager(state: State, subject: Subject, now: number): void {
  const { name, role } = requireNode(state, subject, now);
  if (role !== "manager") throw new UserError(403, `node '${name}' is a worker, and only managers may ask this`);
}

/** The row of a user or of a manager's node. Throws UserError 403 for a worker, also one that may write. */
export function requireOperator(state: State, subject: Subject, now: number): Caller {
  const caller = requireCaller(state, subject, now);
  if (caller.kind === "user" || caller.row.role === "manager") return caller;
  throw new UserError(403, `node '${caller.row.name}' is a worker: ${ELSEWHERE}`);
}

/** Whether who calls may do all. */
export function isTrusted(state: State, { kind, row }: Caller): boolean {
  return kind === "user" || row.role === "manager" || settingsOf(state)?.workerWrites === true;
}

/** Throws UserError 403 when the caller may not have the command carried out. */
export function requireMay(state: State, caller: Caller, command: Command): void {
  if (isTrusted(state, caller)) return;
  const { id, name } = caller.row;
  const whose = nodeOf(state, command);
  // The leader says so of what is not there any more.
  if (whose === id || whose === "none") return;
  if (whose === undefined) {
    throw new UserError(403, `node '${name}' is a worker, and workers may not do '${command.type}': ${ELSEWHERE}`);
  }
  const other = state.nodes.get(whose ?? "")?.name;
  const what = other === undefined ? "for no other node" : `not for node '${other}'`;
  throw new UserError(403, `node '${name}' is a worker and may do '${command.type}' for itself, ${what}: ${ELSEWHERE}`);
}

/** The id of the node that the command is about; null: it is on no node; `none`: it is gone; undefined: workers send no such command. */
function nodeOf({ endpoints, tasks }: State, command: Command): string | null | undefined {
  switch (command.type) {
    case "attach":
    case "endpoint.create":
    case "node.leave":
      return command.node;
    case "endpoint.remove":
    case "detach": {
      const row = endpoints.get(command.id) ?? tasks.get(command.id);
      return row === undefined ? "none" : row.nodeId;
    }
    default:
      return undefined;
  }
}
