// The local API's client, for overlayctl and the plugins: HTTP over the agent's unix socket.
import { request as httpRequest } from "node:http";
import type { Readable } from "node:stream";
import { text } from "node:stream/consumers";
import { UserError } from "../lib/errors.ts";
import type {
  AddExternal,
  Attach,
  AttachedView,
  CreateNetwork,
  CreateService,
  Detach,
  EndpointView,
  Failure,
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

const USER_CODES: readonly number[] = [400, 404, 409, 503, 507] satisfies UserError["code"][];

/** Every call throws UserError with what the agent answered, or 503 when no agent answers. */
export class ApiClient {
  readonly #socketPath: string;

  constructor(socketPath: string) {
    this.#socketPath = socketPath;
  }

  status = () => this.#call<StatusView>("GET", "/v1/status");

  /** Whether an agent answers, whatever it says. */
  isThere = (): Promise<boolean> =>
    this.status().then(
      () => true,
      (error: unknown) => !(error instanceof UserError && error.cause !== undefined),
    );
  /** Resolves when the node has begun. */
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
  progress = (service: string) =>
    this.#call<ProgressView>("GET", `/v1/services/${encodeURIComponent(service)}/progress`);

  /** Bytes as they come. */
  taskLog = (id: string, filter: LogFilter) =>
    this.#stream("GET", `/v1/tasks/${encodeURIComponent(id)}/log?${query({ ...filter })}`);

  nodes = () => this.#call<NodeView[]>("GET", "/v1/nodes");
  node = (name: string) => this.#call<NodeView>("GET", `/v1/nodes/${encodeURIComponent(name)}`);
  removeNode = (name: string) => this.#call<Written>("DELETE", `/v1/nodes/${encodeURIComponent(name)}`);
  setAvailability = (name: string, availability: NodeView["availability"]) =>
    this.#call<Written>("POST", `/v1/nodes/${encodeURIComponent(name)}/availability`, { availability });

  /** Resolves when every live node has the revision in force; 503 says who has not. */
  waitApplied = (body: WaitApplied) => this.#call<{ revision: number }>("POST", "/v1/applied", body);

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

  #call<T>(method: string, path: string, body?: object): Promise<T> {
    return new Promise((resolve, reject) => {
      const payload = body === undefined ? undefined : JSON.stringify(body);
      const headers = payload === undefined ? {} : { "content-type": "application/json" };
      // One connection a call, so that no idle one keeps the process alive.
      const request = httpRequest({ socketPath: this.#socketPath, method, path, headers, agent: false }, (response) => {
        const parts: Buffer[] = [];
        response.on("data", (part: Buffer) => parts.push(part));
        response.on("error", (error) => reject(this.#broken(error)));
        response.on("end", () => {
          try {
            resolve(answerOf<T>(response.statusCode ?? 0, Buffer.concat(parts).toString()));
          } catch (error) {
            reject(error);
          }
        });
      });
      request.on("error", (error) => reject(this.#broken(error)));
      request.end(payload);
    });
  }

  /** The body of the answer, once the agent has begun to send one. */
  #stream(method: string, path: string): Promise<Readable> {
    return new Promise((resolve, reject) => {
      const request = httpRequest({ socketPath: this.#socketPath, method, path, agent: false }, (response) => {
        if (response.statusCode === 200) return resolve(response);
        text(response)
          .then((body) => answerOf(response.statusCode ?? 0, body))
          .then(() => reject(new Error(`the agent answered ${response.statusCode}`)), reject);
      });
      request.on("error", (error) => reject(this.#broken(error)));
      request.end();
    });
  }

  #broken(error: NodeJS.ErrnoException): UserError {
    const path = this.#socketPath;
    const why: Record<string, string> = {
      ENOENT: `no agent listens on ${path}: start it with 'overlayd --config FILE', or name its socket with --socket or OVERLAYD_SOCKET`,
      ECONNREFUSED: `the agent that made ${path} is gone: start it again with 'overlayd --config FILE'`,
      EACCES: `may not open ${path}: run as the user that runs overlayd (sudo overlayctl ...)`,
      ECONNRESET: `the agent on ${path} stopped before it answered`,
    };
    return new UserError(503, why[error.code ?? ""] ?? `cannot ask the agent on ${path}: ${error.message}`, {
      cause: error,
    });
  }
}

function answerOf<T>(status: number, text: string): T {
  let answer: unknown;
  try {
    answer = JSON.parse(text);
  } catch (cause) {
    throw new Error(`what answers on the socket is not overlayd (HTTP status ${status})`, { cause });
  }
  if (status === 200) return answer as T;
  const { error, field } = answer as Failure;
  if (!USER_CODES.includes(status)) throw new Error(error);
  throw new UserError(status as UserError["code"], error, field === undefined ? {} : { field });
}

/** What is null or left out is not said. */
function query(fields: Record<string, string | number | boolean | null | undefined>): string {
  const said = Object.entries(fields).filter(([, value]) => value !== null && value !== undefined);
  return new URLSearchParams(Object.fromEntries(said.map(([name, value]) => [name, String(value)]))).toString();
}
