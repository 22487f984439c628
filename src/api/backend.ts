// The agent, as far as a person may ask it: what the API's answers are made from.
import type { Readable } from "node:stream";
import type { CommandInput, CommandResult } from "../cluster/commands.ts";
import type { AppliedChange } from "../cluster/state.ts";
import type { State } from "../cluster/tables.ts";
import type { Role } from "../cluster/trust-rows.ts";
import type { ClusterBackend } from "./cluster-routes.ts";
import type {
  AddUser,
  AuthorityView,
  CheckedJoin,
  JoinTokenView,
  JoinView,
  RotateAuthority,
  UserCertificateView,
  UserView,
} from "./membership-schema.ts";
import type {
  AttachedView,
  CheckedAttach,
  Detach,
  EndpointView,
  ExportedKeys,
  FlowFilter,
  FlowView,
  LeaveView,
  LogFilter,
  OpenSandbox,
  PeerView,
  SandboxView,
  StatsView,
} from "./schema.ts";
import type { StateSource } from "./state-source.ts";

export interface Backend {
  readonly nodeName: string;
  /** The id of the node's cluster. */
  readonly clusterId: string;
  readonly role: Role;
  /** The cluster's state as this node has it. Throws UserError 503 while it has none yet. */
  state(): State;
  /** Calls the listener after each change of the state, until the returned function is called. */
  onChanges(listener: (changes: readonly AppliedChange[]) => void): () => void;
  /** The leading node's name if it is known, whether this node has a session with it, and if not, why. */
  leader(): { name: string | null; connected: boolean; problem: string | null };
  /** Where `state` is from at this moment. */
  readonly stateSource: StateSource;
  /**
   * Begins to forget the cluster, with all that this node has of it, once the leader has heard. Throws UserError unless it is
   * `force`d.
   */
  leave(force: boolean): Promise<LeaveView>;
  /**
   * Has the leader carry out the command, and resolves when this node's state has the change, so that a person who
   * reads next sees it. Throws UserError, 503 when no leader answers.
   */
  execute(command: CommandInput): Promise<CommandResult>;
  /** Resolves when every live node has the revision in force. Throws UserError 503 that names the nodes that have not. */
  waitApplied(revision: number, timeoutMs: number): Promise<void>;
  /** Makes this node a member again, when its certificate has ended. Throws UserError 409 when it has not. */
  rejoin(request: CheckedJoin): Promise<JoinView>;
  /** The token with which nodes join; `rotate` makes a new one. Throws UserError. */
  joinToken(role: Role, options: { rotate: boolean }): Promise<JoinTokenView>;
  users(): Promise<UserView[]>;
  /** Throws UserError. */
  addUser(request: AddUser): Promise<UserCertificateView>;
  /** Changes certificate authorities, or goes on with changes that are under way. Throws UserError. */
  rotateAuthority(request: RotateAuthority): Promise<AuthorityView[]>;
  /** What a manager does for an operator. Throws UserError 403 on a worker. */
  cluster(): ClusterBackend;
  peers(): Promise<PeerView[]>;
  /**
   * The keys with a peer, for the process at the other end of the socket with this descriptor. Throws UserError 403 unless that is root's.
   */
  exportKeys(peer: string, descriptor: number): ExportedKeys;
  stats(): Promise<StatsView>;
  /** Turns this node's express lane on or off until the agent's next start. Throws UserError 409 where there is none to turn on. */
  turnLane(isOn: boolean): void;
  flows(filter: FlowFilter): Promise<FlowView[]>;
  /** How far tasks are that are being prepared, by task id. The call asks their nodes, and answers what is known by now. */
  progress(taskIds: readonly string[]): ReadonlyMap<string, string>;
  /** The log of a task of any node. Throws UserError. */
  taskLog(id: string, filter: LogFilter): Promise<Readable>;
  /** Attaches a container or namespace of this node. Throws UserError. */
  attach(request: CheckedAttach): Promise<AttachedView>;
  /** Takes it off one network, or off all. Throws UserError. */
  detach(request: Detach): Promise<void>;
  /** Containers of this node that ask to be attached and are not. */
  refused(): EndpointView[];
  /** Makes a network namespace with an endpoint on a network, for the process `pid`. */
  openSandbox(request: OpenSandbox): Promise<SandboxView>;
  /** Removes the sandbox; one that is gone is no error. */
  closeSandbox(id: string): Promise<void>;
}
