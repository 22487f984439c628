// How a session reaches a manager: an interface, and its HTTP implementation. leader/server.ts is the other end.
import { type ClientRequest, request as httpRequest } from "node:http";
import type { Readable } from "node:stream";
import { text } from "node:stream/consumers";
import { pipeline } from "node:stream/promises";
import type { CommandInput, CommandResult } from "../cluster/commands.ts";
import {
  CLUSTER_HEADER,
  type LogQuery,
  type LogRefusal,
  type Report,
  type SessionRequest,
} from "../cluster/protocol.ts";
import { UserError } from "../lib/errors.ts";

/** The request has certainly not arrived: another manager may be asked. */
export class UnreachableError extends Error {
  override name = "UnreachableError";
}

/** `manager` is HOST:PORT, `cluster` the id of the node's cluster as far as it has one. All throw UserError as the leader does, UnreachableError, and Error when the answer is lost. */
export interface Transport {
  /** The lines of the leader's stream, unchecked. Ends or throws when the stream breaks, or `signal` aborts. */
  open(manager: string, request: SessionRequest, signal: AbortSignal): AsyncIterable<unknown>;
  report(manager: string, sessionId: string, report: Report): Promise<void>;
  execute(manager: string, cluster: string | undefined, command: CommandInput): Promise<CommandResult>;
  /** The names of the nodes that are behind. */
  waitApplied(manager: string, cluster: string | undefined, revision: number, timeoutMs: number): Promise<string[]>;
  /** The log of any node's task, once its node brings it. */
  readLog(manager: string, cluster: string | undefined, taskId: string, query: LogQuery): Promise<Readable>;
  /** Brings a log that the leader asked for. Resolves at its end; ends it when nobody reads it any more. */
  bringLog(manager: string, sessionId: string, requestId: string, log: Readable): Promise<void>;
  refuseLog(manager: string, sessionId: string, requestId: string, refusal: LogRefusal): Promise<void>;
}

const ANSWER_TIMEOUT_MS = 10_000;
const KEEP_ALIVE_MS = 30_000;
const MAX_LINE_CHARACTERS = 256 * 1024 * 1024;
const NOT_SENT = new Set([
  "ECONNREFUSED",
  "EHOSTUNREACH",
  "ENETUNREACH",
  "ENOTFOUND",
  "EAI_AGAIN",
  "UND_ERR_CONNECT_TIMEOUT",
]);
const USER_ERROR_CODES: ReadonlySet<number> = new Set([400, 404, 409, 503, 507] satisfies UserError["code"][]);

export const httpTransport: Transport = {
  async *open(manager, request, signal) {
    const response = await send(manager, "/v1/sessions", { method: "POST", body: request, signal });
    yield* linesOf(response);
  },
  async report(manager, sessionId, report) {
    await send(manager, `/v1/sessions/${sessionId}/report`, { method: "POST", body: report });
  },
  async execute(manager, cluster, command) {
    const response = await send(manager, "/v1/commands", { method: "POST", body: command, cluster });
    return (await response.json()) as CommandResult;
  },
  async waitApplied(manager, cluster, revision, timeoutMs) {
    const path = `/v1/applied?revision=${revision}&timeoutMs=${timeoutMs}`;
    const signal = AbortSignal.timeout(timeoutMs + ANSWER_TIMEOUT_MS);
    const response = await send(manager, path, { method: "GET", signal, cluster });
    return ((await response.json()) as { behind: string[] }).behind;
  },
  // fetch would end what is silent for five minutes.
  readLog(manager, cluster, taskId, query) {
    const headers = { "content-type": "application/json", ...clusterHeader(cluster) };
    const { request, answer } = begin(manager, `/v1/tasks/${taskId}/log`, headers);
    request.end(JSON.stringify(query));
    return answer;
  },
  async bringLog(manager, sessionId, requestId, log) {
    const { request, answer } = begin(manager, `/v1/sessions/${sessionId}/logs/${requestId}`, {
      "content-type": "application/octet-stream",
    });
    try {
      await Promise.all([pipeline(log, request), answer]);
    } finally {
      request.destroy();
    }
  },
  async refuseLog(manager, sessionId, requestId, refusal) {
    await send(manager, `/v1/sessions/${sessionId}/logs/${requestId}/refusal`, { method: "POST", body: refusal });
  },
};

/** A request whose body and answer may take as long as they like. */
function begin(
  manager: string,
  path: string,
  headers: Record<string, string>,
): { request: ClientRequest; answer: Promise<Readable> } {
  const request = httpRequest(`http://${manager}${path}`, { method: "POST", headers, agent: false });
  request.on("socket", (socket) => socket.setKeepAlive(true, KEEP_ALIVE_MS));
  const answer = new Promise<Readable>((resolve, reject) => {
    request.on("error", (error: NodeJS.ErrnoException) => reject(failureOf(error.code ?? error.message, error)));
    request.on("response", (response) => {
      const status = response.statusCode ?? 0;
      if (status < 300) resolve(response);
      else text(response).then((body) => reject(refusalOf(status, body)), reject);
    });
  });
  return { request, answer };
}

async function send(
  manager: string,
  path: string,
  request: { method: string; body?: unknown; signal?: AbortSignal; cluster?: string | undefined },
): Promise<Response> {
  const { method, body, signal = AbortSignal.timeout(ANSWER_TIMEOUT_MS), cluster } = request;
  const headers = clusterHeader(cluster);
  if (body !== undefined) headers["content-type"] = "application/json";
  const content = body === undefined ? { headers } : { headers, body: JSON.stringify(body) };
  let response: Response;
  try {
    response = await fetch(`http://${manager}${path}`, { method, signal, ...content });
  } catch (error) {
    throw describeFailure(error);
  }
  if (response.ok) return response;
  throw refusalOf(response.status, await response.text());
}

function clusterHeader(cluster: string | undefined): Record<string, string> {
  return cluster === undefined ? {} : { [CLUSTER_HEADER]: cluster };
}

/** fetch says only "fetch failed"; the reason is in its cause. */
function describeFailure(error: unknown): Error {
  const cause = (error as { cause?: NodeJS.ErrnoException }).cause;
  return failureOf(cause?.code ?? cause?.message ?? (error as Error).message, error);
}

function failureOf(reason: string, cause: unknown): Error {
  return NOT_SENT.has(reason) ? new UnreachableError(reason, { cause }) : new Error(reason, { cause });
}

function refusalOf(status: number, body: string): Error {
  let answer: { message?: string; field?: string } = {};
  try {
    answer = JSON.parse(body) as typeof answer;
  } catch {
    return new Error(`HTTP ${status}: ${body.slice(0, 200)}`);
  }
  const message = answer.message ?? `HTTP ${status}`;
  if (!USER_ERROR_CODES.has(status)) return new Error(message);
  const code = status as UserError["code"];
  return new UserError(code, message, answer.field === undefined ? {} : { field: answer.field });
}

async function* linesOf(response: Response): AsyncGenerator<unknown> {
  const decoder = new TextDecoder();
  let unfinished: string[] = [];
  let characters = 0;
  for await (const chunk of response.body ?? []) {
    const [first, ...rest] = decoder.decode(chunk as Uint8Array, { stream: true }).split("\n");
    unfinished.push(first!);
    characters += first!.length;
    for (const part of rest) {
      yield JSON.parse(unfinished.join(""));
      unfinished = [part];
      characters = part.length;
    }
    if (characters > MAX_LINE_CHARACTERS) throw new Error("a line of the leader's stream is too long");
  }
}
