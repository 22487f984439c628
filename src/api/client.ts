// The API's client, for overlayctl and the plugins. It asks an agent over its unix socket, or the managers of a cluster.
import type { IncomingHttpHeaders } from "node:http";
import type { Readable } from "node:stream";
import { UserError } from "../lib/errors.ts";
import type {
  ClusterStatusView,
  ExportView,
  ImportRequest,
  ImportView,
  MoveView,
  RecoverView,
  TakeoverView,
} from "./cluster-schema.ts";
import type {
  AddUser,
  AuthorityView,
  Init,
  InitView,
  Join,
  JoinTokenView,
  JoinView,
  RotateAuthority,
  UserCertificateView,
  UserView,
} from "./membership-schema.ts";
import type {
  AddExternal,
  Attach,
  AttachedView,
  CreateNetwork,
  CreateService,
  Detach,
  EndpointView,
  ExportedKeys,
  Express,
  FlowFilter,
  FlowView,
  Leave,
  LeaveView,
  LogFilter,
  NetworkView,
  NodeView,
  OpenSandbox,
  PeerView,
  ProgressView,
  SandboxView,
  ServiceView,
  StatsView,
  StatusView,
  TaskView,
  WaitApplied,
  Written,
} from "./schema.ts";
import { socketTarget } from "./socket-target.ts";
import { parseStateSource, STATE_HEADER, type StateSource } from "./state-source.ts";
import type { ApiTarget, Method } from "./target.ts";

export const DEFAULT_SOCKET = "/run/overlayd/overlayd.sock";

/** A call's deadline. The agent itself waits less long for a leader, a node or Docker. */
const CALL_TIMEOUT_MS = 60_000;
/** Every node gets a new certificate meanwhile; the leader answers before that when some do not. */
const ROTATE_TIMEOUT_MS = 180_000;
/** Managers are checked, begun and come in step, one after the other. */
const MOVE_TIMEOUT_MS = 420_000;

/** Every call throws UserError with what the agent answered, or 503 when no agent answers. */
export class ApiClient {
  readonly #target: ApiTarget;
  #stateSource: StateSource = "leader";

  /** `target`: the path of an agent's socket, or another one. */
  constructor(target: string | ApiTarget) {
    this.#target = typeof target === "string" ? socketTarget(target) : target;
  }

  /** Where the newest answer is from. */
  get stateSource(): StateSource {
    return this.#stateSource;
  }

  status = () => this.#call<StatusView>("GET", "/v1/status");

  /** Whether an agent answers, if only with an error. */
  isThere = (): Promise<boolean> =>
    this.status().then(
      () => true,
      (error: unknown) => !(error instanceof UserError && error.cause !== undefined),
    );

  /** Resolves when the node is a member; its agent starts its parts then. */
  init = (body: Init) => this.#call<InitView>("POST", "/v1/cluster/init", body);
  importCluster = (body: ImportRequest) => this.#call<ImportView>("POST", "/v1/cluster/import", body);
  clusterStatus = () => this.#call<ClusterStatusView>("GET", "/v1/cluster/status");
  exportCluster = (body: { path: string }) => this.#call<ExportView>("POST", "/v1/cluster/export", body);
  moveStore = (body: { force: boolean }) => this.#call<MoveView>("POST", "/v1/cluster/move", body, MOVE_TIMEOUT_MS);
  takeOver = (body: { force: boolean }) => this.#call<TakeoverView>("POST", "/v1/cluster/takeover", body);
  recoverCluster = (body: { force: boolean }) => this.#call<RecoverView>("POST", "/v1/cluster/recover", body);
  join = (body: Join) => this.#call<JoinView>("POST", "/v1/cluster/join", body);
  /** Resolves when the node has begun to leave. */
  leave = (body: Leave) => this.#call<LeaveView>("POST", "/v1/leave", body);

  networks = () => this.#call<NetworkView[]>("GET", "/v1/networks");
  network = (name: string) => this.#call<NetworkView>("GET", `/v1/networks/${encodeURIComponent(name)}`);
  createNetwork = (body: CreateNetwork) => this.#call<Written>("POST", "/v1/networks", body);
  removeNetwork = (name: string) => this.#call<Written>("DELETE", `/v1/networks/${encodeURIComponent(name)}`);

  services = () => this.#call<ServiceView[]>("GET", "/v1/services");
  service = (name: string) => this.#call<ServiceView>("GET", `/v1/services/${encodeURIComponent(name)}`);
  createService = (body: CreateService) => this.#call<Written>("POST", "/v1/services", body);
  removeService = (name: string) => this.#call<Written>("DELETE", `/v1/services/${encodeURIComponent(name)}`);
  scaleService = (name: string, replicas: number) =>
    this.#call<Written>("POST", `/v1/services/${encodeURIComponent(name)}/scale`, { replicas });
  tasks = (service: string) => this.#call<TaskView[]>("GET", `/v1/services/${encodeURIComponent(service)}/tasks`);
  /** The progress once it is not the one of the token `unless`, at the latest after `waitMs`. */
  progress = (service: string, { unless, waitMs = 0 }: { unless?: string | undefined; waitMs?: number } = {}) => {
    const path = `/v1/services/${encodeURIComponent(service)}/progress?${query({ unless, waitMs })}`;
    return this.#call<ProgressView>("GET", path, undefined, waitMs + CALL_TIMEOUT_MS);
  };

  /** The bytes of the log, as they come. */
  taskLog = (id: string, filter: LogFilter) =>
    this.#stream(`/v1/tasks/${encodeURIComponent(id)}/log?${query({ ...filter })}`);

  nodes = () => this.#call<NodeView[]>("GET", "/v1/nodes");
  node = (name: string) => this.#call<NodeView>("GET", `/v1/nodes/${encodeURIComponent(name)}`);
  removeNode = (name: string, { force = false } = {}) =>
    this.#call<Written>("DELETE", `/v1/nodes/${encodeURIComponent(name)}?${query({ force })}`);
  setRole = (name: string, role: JoinTokenView["role"]) =>
    this.#call<Written>("POST", `/v1/nodes/${encodeURIComponent(name)}/role`, { role });
  setAvailability = (name: string, availability: NodeView["availability"]) =>
    this.#call<Written>("POST", `/v1/nodes/${encodeURIComponent(name)}/availability`, { availability });

  joinToken = (role: JoinTokenView["role"], { rotate = false } = {}) => {
    const path = `/v1/join-tokens/${encodeURIComponent(role)}`;
    return rotate ? this.#call<JoinTokenView>("POST", `${path}/rotate`) : this.#call<JoinTokenView>("GET", path);
  };
  rotateAuthority = (request: RotateAuthority) =>
    this.#call<AuthorityView[]>("POST", "/v1/authority/rotate", request, ROTATE_TIMEOUT_MS);
  users = () => this.#call<UserView[]>("GET", "/v1/users");
  addUser = (body: AddUser) => this.#call<UserCertificateView>("POST", "/v1/users", body);
  removeUser = (name: string) => this.#call<Written>("DELETE", `/v1/users/${encodeURIComponent(name)}`);

  /** Resolves when every live node has the revision in force. Throws 503 that names the nodes that have not. */
  waitApplied = (body: WaitApplied) =>
    this.#call<{ revision: number }>("POST", "/v1/applied", body, body.timeoutMs + CALL_TIMEOUT_MS);

  peers = () => this.#call<PeerView[]>("GET", "/v1/peers");
  exportKeys = (peer: string) => this.#call<ExportedKeys>("GET", `/v1/debug/keys/${encodeURIComponent(peer)}`);
  turnLane = (on: boolean) => this.#call<Express>("POST", "/v1/express", { on });
  stats = () => this.#call<StatsView>("GET", "/v1/stats");
  flows = (filter: FlowFilter) => this.#call<FlowView[]>("GET", `/v1/flows?${query({ ...filter })}`);

  addExternal = (body: AddExternal) => this.#call<Written>("POST", "/v1/endpoints", body);
  removeExternal = (name: string) => this.#call<Written>("DELETE", `/v1/endpoints/${encodeURIComponent(name)}`);
  endpoints = () => this.#call<EndpointView[]>("GET", "/v1/endpoints");
  attach = (body: Attach) => this.#call<AttachedView>("POST", "/v1/attach", body);
  detach = (body: Detach) => this.#call<object>("POST", "/v1/detach", body);

  openSandbox = (body: OpenSandbox) => this.#call<SandboxView>("POST", "/v1/sandboxes", body);
  closeSandbox = (id: string) => this.#call<object>("DELETE", `/v1/sandboxes/${encodeURIComponent(id)}`);

  #call<T>(method: Method, path: string, body?: object, timeoutMs = CALL_TIMEOUT_MS): Promise<T> {
    const onHeaders = (headers: IncomingHttpHeaders): void => {
      this.#stateSource = parseStateSource(headers[STATE_HEADER]);
    };
    return this.#target.call<T>({ method, path, timeoutMs, onHeaders, ...(body && { body }) });
  }

  #stream(path: string): Promise<Readable> {
    return this.#target.stream({ method: "GET", path, timeoutMs: CALL_TIMEOUT_MS });
  }
}

/** A query string; fields that are null or undefined are left out. */
function query(fields: Record<string, string | number | boolean | null | undefined>): string {
  const given = Object.entries(fields).filter(([, value]) => value !== null && value !== undefined);
  return new URLSearchParams(Object.fromEntries(given.map(([name, value]) => [name, String(value)]))).toString();
}
