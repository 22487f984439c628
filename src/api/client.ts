// The local API's client, for overlayctl and the plugins: HTTP over the agent's unix socket.
import type { Readable } from "node:stream";
import { messageOf, UserError } from "../lib/errors.ts";
import { AnswerLostError, call, stream, UnreachableError } from "../lib/http.ts";
import type {
  AddExternal,
  Attach,
  AttachedView,
  CreateNetwork,
  CreateService,
  Detach,
  EndpointView,
  FlowFilter,
  FlowView,
  Leave,
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

export const DEFAULT_SOCKET = "/run/overlayd/overlayd.sock";

/** A call's deadline. The agent itself waits less long for a leader, a node or Docker. */
const CALL_TIMEOUT_MS = 60_000;

type Method = "GET" | "POST" | "DELETE";

/** Every call throws UserError with what the agent answered, or 503 when no agent answers. */
export class ApiClient {
  readonly #socketPath: string;

  constructor(socketPath: string) {
    this.#socketPath = socketPath;
  }

  status = () => this.#call<StatusView>("GET", "/v1/status");

  /** Whether an agent answers, if only with an error. */
  isThere = (): Promise<boolean> =>
    this.status().then(
      () => true,
      (error: unknown) => !(error instanceof UserError && error.cause !== undefined),
    );
  /** Resolves when the node has begun to leave. */
  leave = (body: Leave) => this.#call<object>("POST", "/v1/leave", body);

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
  removeNode = (name: string) => this.#call<Written>("DELETE", `/v1/nodes/${encodeURIComponent(name)}`);
  setAvailability = (name: string, availability: NodeView["availability"]) =>
    this.#call<Written>("POST", `/v1/nodes/${encodeURIComponent(name)}/availability`, { availability });

  /** Resolves when every live node has the revision in force. Throws 503 that names the nodes that have not. */
  waitApplied = (body: WaitApplied) =>
    this.#call<{ revision: number }>("POST", "/v1/applied", body, body.timeoutMs + CALL_TIMEOUT_MS);

  peers = () => this.#call<PeerView[]>("GET", "/v1/peers");
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
    const request = { method, path, timeoutMs, ...(body && { body }) };
    return call<T>({ socketPath: this.#socketPath }, request).catch(this.#explain);
  }

  #stream(path: string): Promise<Readable> {
    const request = { method: "GET", path, timeoutMs: CALL_TIMEOUT_MS } as const;
    return stream({ socketPath: this.#socketPath }, request).catch(this.#explain);
  }

  /** Says what a person can do when no agent answers. */
  #explain = (error: unknown): never => {
    if (!(error instanceof UnreachableError || error instanceof AnswerLostError)) throw error;
    const path = this.#socketPath;
    const reasons = new Map([
      [
        "ENOENT",
        `no agent listens on ${path}: start it with 'overlayd --config FILE', or name its socket with --socket or OVERLAYD_SOCKET`,
      ],
      ["ECONNREFUSED", `the agent that made ${path} is gone: start it again with 'overlayd --config FILE'`],
      ["EACCES", `may not open ${path}: run as the user that runs overlayd (sudo overlayctl ...)`],
      ["ECONNRESET", `the agent on ${path} stopped before it answered`],
    ]);
    const message = reasons.get(error.message) ?? `cannot ask the agent on ${path}: ${messageOf(error.cause)}`;
    throw new UserError(503, message, { cause: error });
  };
}

/** A query string; fields that are null or undefined are left out. */
function query(fields: Record<string, string | number | boolean | null | undefined>): string {
  const given = Object.entries(fields).filter(([, value]) => value !== null && value !== undefined);
  return new URLSearchParams(Object.fromEntries(given.map(([name, value]) => [name, String(value)]))).toString();
}
