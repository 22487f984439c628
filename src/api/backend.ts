// What the API stands on: the agent, as far as a person may ask it.
import type { Readable } from "node:stream";
import type { CommandInput, CommandResult } from "../cluster/commands.ts";
import type { AppliedChange } from "../cluster/state.ts";
import type { State } from "../cluster/tables.ts";
import type {
  AttachedView,
  CheckedAttach,
  Detach,
  EndpointView,
  FlowFilter,
  FlowView,
  LogFilter,
  OpenSandbox,
  PeerView,
  SandboxView,
  StatsView,
} from "./schema.ts";

export interface Backend {
  readonly nodeName: string;
  /** This node's snapshot of the cluster. Throws UserError 503 while it has none yet. */
  state(): State;
  /** Calls after changes are in the state, until the returned function is called. */
  onChanges(listener: (changes: readonly AppliedChange[]) => void): () => void;
  /** The leading node's name if it is known, whether this node has a session with it, and if not, why. */
  leader(): { name: string | null; connected: boolean; problem: string | null };
  /** Begins to forget the cluster, with all that this node has of it. Throws UserError 409 unless it is `force`d. */
  leave(force: boolean): void;
  /**
   * Has the leader carry it out, and resolves when this node's snapshot has it, so that a person who wrote something
   * reads it next. Throws UserError, among them 503 when no leader answers.
   */
  execute(command: CommandInput): Promise<CommandResult>;
  /** Resolves when every live node has the revision in force. Throws UserError 503 that names who has not. */
  waitApplied(revision: number, timeoutMs: number): Promise<void>;
  peers(): Promise<PeerView[]>;
  stats(): Promise<StatsView>;
  flows(filter: FlowFilter): Promise<FlowView[]>;
  /** How far tasks are that are being prepared, by their ids, as far as it is known here; asks their nodes for it. */
  progress(taskIds: readonly string[]): ReadonlyMap<string, string>;
  /** What a task of this node printed. Throws UserError. */
  taskLog(id: string, filter: LogFilter): Promise<Readable>;
  /** Attaches a container or namespace that is there. Throws UserError. */
  attach(request: CheckedAttach): Promise<AttachedView>;
  /** Throws UserError. */
  detach(request: Detach): Promise<void>;
  /** Containers of this node that ask to be attached and are not. */
  refused(): EndpointView[];
  /** A network namespace with an endpoint on a network, for the process `pid`. */
  openSandbox(request: OpenSandbox): Promise<SandboxView>;
  /** Resolves also when there is no such sandbox any more. */
  closeSandbox(id: string): Promise<void>;
}
