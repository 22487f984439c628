// How a session reaches a manager: an interface, and its implementation over HTTPS. leader/server.ts is the other end.
import type { Agent } from "node:http";
import { createInterface } from "node:readline";
import type { Readable } from "node:stream";
import type { CommandInput, CommandResult } from "../cluster/commands.ts";
import {
  CALLER_HEADER,
  CLUSTER_HEADER,
  type LogQuery,
  type LogRefusal,
  type Report,
  type SessionRequest,
} from "../cluster/protocol.ts";
import { systemClock } from "../lib/clock.ts";
import { UserError } from "../lib/errors.ts";
import { call, stream, UnreachableError, upload } from "../lib/http.ts";
import { currentAsker } from "../lib/on-behalf.ts";
import { serverRefusal } from "../trust/refusals.ts";
import { BeatStream, type Beats } from "./beat-stream.ts";

/** `manager` is HOST:PORT, `cluster` the id of the node's cluster as far as it has one. All throw UserError and MisdirectedError as managers do, and the errors of lib/http.ts. */
export interface Transport {
  /** Resolves when the manager leads. Throws MisdirectedError when another one does. */
  leads(manager: string, signal: AbortSignal): Promise<void>;
  /**
   * The lines of the leader's stream, unchecked. Ends or throws when the stream breaks, or `signal` aborts. `heard` is called
   * for each piece that comes, also of a line that is not whole yet.
   */
  open(manager: string, request: SessionRequest, signal: AbortSignal, heard: () => void): AsyncIterable<unknown>;
  report(manager: string, sessionId: string, report: Report, signal: AbortSignal): Promise<void>;
  /** For a session whose leader takes beats. `lost` is called once, when what was told last may not have arrived. */
  beats(manager: string, sessionId: string, lost: () => void): Beats;
  execute(manager: string, cluster: string | undefined, command: CommandInput): Promise<CommandResult>;
  /** The names of the nodes that are behind. */
  waitApplied(manager: string, cluster: string | undefined, revision: number, timeoutMs: number): Promise<string[]>;
  /** The log of any node's task, once its node brings it. */
  readLog(manager: string, cluster: string | undefined, taskId: string, query: LogQuery): Promise<Readable>;
  /** Brings a log that the leader asked for. Resolves at its end; ends it when the client has gone. */
  bringLog(manager: string, sessionId: string, requestId: string, log: Readable): Promise<void>;
  refuseLog(manager: string, sessionId: string, requestId: string, refusal: LogRefusal): Promise<void>;
}

const ANSWER_TIMEOUT_MS = 10_000;
/** The leader gives the task's node 10 s to begin. */
const LOG_TIMEOUT_MS = 20_000;
const MAX_LINE_BYTES = 256 * 1024 * 1024;
const NEWLINE = 0x0a;

/** A transport that reaches no manager: each call throws UserError 503 that says why. */
export function noTransport(why: string): Transport {
  const refuse = async (): Promise<never> => {
    throw new UserError(503, why);
  };
  return {
    ...{ leads: refuse, report: refuse, execute: refuse, waitApplied: refuse },
    ...{ readLog: refuse, bringLog: refuse, refuseLog: refuse },
    beats: () => ({ tell: () => false, end() {} }),
    // biome-ignore lint/correctness/useYield: it ends before the first line
    async *open() {
      await refuse();
    },
  };
}

/** Over the connections of `agent`, which is another one after each renewal of the certificate. */
export function transportOver(connections: { readonly agent: Agent }): Transport {
  const at = (manager: string) => ({ address: manager, agent: connections.agent });
  const post = <T>(manager: string, path: string, request: PostRequest): Promise<T> =>
    inWords(call<T>(at(manager), { method: "POST", path, ...request, timeoutMs: ANSWER_TIMEOUT_MS }));
  return {
    leads: (manager, signal) =>
      inWords(call(at(manager), { method: "GET", path: "/v1/leader", timeoutMs: ANSWER_TIMEOUT_MS, signal })),
    async *open(manager, request, signal, heard) {
      const answer = { timeoutMs: ANSWER_TIMEOUT_MS, signal };
      const asked = { method: "POST", path: "/v1/sessions", body: request, ...answer } as const;
      yield* linesOf(await inWords(stream(at(manager), asked)), heard);
    },
    report: (manager, sessionId, report, signal) =>
      post(manager, `/v1/sessions/${sessionId}/report`, { body: report, signal }),
    beats: (manager, sessionId, lost) =>
      new BeatStream({ connections, address: manager, path: `/v1/sessions/${sessionId}/beats`, lost }),
    execute: (manager, cluster, command) =>
      post(manager, "/v1/commands", { body: command, headers: headersOf(cluster) }),
    async waitApplied(manager, cluster, revision, timeoutMs) {
      const path = `/v1/applied?revision=${revision}&timeoutMs=${timeoutMs}`;
      const request = {
        method: "GET",
        path,
        headers: headersOf(cluster),
        timeoutMs: timeoutMs + ANSWER_TIMEOUT_MS,
      } as const;
      return (await inWords(call<{ behind: string[] }>(at(manager), request))).behind;
    },
    readLog(manager, cluster, taskId, query) {
      const path = `/v1/tasks/${taskId}/log`;
      const request = { path, headers: headersOf(cluster), body: query, timeoutMs: LOG_TIMEOUT_MS };
      return inWords(stream(at(manager), { method: "POST", ...request }));
    },
    bringLog(manager, sessionId, requestId, log) {
      const path = `/v1/sessions/${sessionId}/logs/${requestId}`;
      return inWords(upload(at(manager), { path, bytes: log, timeoutMs: ANSWER_TIMEOUT_MS }));
    },
    refuseLog: (manager, sessionId, requestId, refusal) =>
      post(manager, `/v1/sessions/${sessionId}/logs/${requestId}/refusal`, { body: refusal }),
  };
}

interface PostRequest {
  body: object;
  headers?: Record<string, string>;
  signal?: AbortSignal;
}

/** What TLS says of a manager's certificate, as a person reads it. */
async function inWords<T>(asked: Promise<T>): Promise<T> {
  try {
    return await asked;
  } catch (error) {
    const refusal = error instanceof UnreachableError ? serverRefusal(error.cause, systemClock.now()) : undefined;
    if (refusal === undefined) throw error;
    throw new UnreachableError(refusal.message, { cause: refusal });
  }
}

function headersOf(cluster: string | undefined): Record<string, string> {
  const asker = currentAsker();
  return {
    ...(cluster === undefined ? {} : { [CLUSTER_HEADER]: cluster }),
    ...(asker === undefined ? {} : { [CALLER_HEADER]: asker }),
  };
}

/** The lines as JSON. Ends with the stream. */
async function* linesOf(bytes: Readable, heard: () => void): AsyncGenerator<unknown> {
  let failure: Error | undefined;
  let unfinishedBytes = 0;
  bytes.on("data", (chunk: Buffer) => {
    heard();
    const newline = chunk.lastIndexOf(NEWLINE);
    unfinishedBytes = newline < 0 ? unfinishedBytes + chunk.length : chunk.length - newline - 1;
    if (unfinishedBytes > MAX_LINE_BYTES) bytes.destroy(new Error("a line of the leader's stream is too long"));
  });
  const lines = createInterface({ input: bytes, crlfDelay: Number.POSITIVE_INFINITY });
  bytes.once("error", (error) => {
    failure = error;
    lines.close(); // it does not hear of the error
  });
  try {
    for await (const line of lines) yield JSON.parse(line);
  } finally {
    bytes.destroy();
  }
  if (failure !== undefined) throw failure;
}
