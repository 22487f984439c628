// POST calls to etcd's JSON gateway (/v3/...), over HTTPS with a client certificate. Of several endpoints the first that can be
// reached is asked; one that did not answer is asked last in the next call.
import type { IncomingMessage } from "node:http";
import { Agent, request } from "node:https";
import type { TLSSocket } from "node:tls";
import { systemClock } from "../lib/clock.ts";
import { EtcdError, errorOfAnswer, errorOfConnection } from "./etcd-error.ts";

/** PEM texts. Etcd trusts every certificate of its CA, so this CA is the store's own. */
export interface EtcdTls {
  ca: string;
  certificate: string;
  key: string;
}

export interface CallOptions {
  /** Ends the call; whether etcd carries it out is not known then. */
  signal?: AbortSignal | undefined;
  /** How long the whole call may take; left out: CALL_MS. */
  timeoutMs?: number;
}

const CALL_MS = 5000;
/** How long each of several endpoints may take to be connected with. */
const CONNECT_MS = 1000;
const MAX_ANSWER_BYTES = 64 * 1024 * 1024;
const MAX_SOCKETS = 32;
const MAX_FREE_SOCKETS = 4;

interface EtcdGatewayOptions {
  /** HOST:PORT of each. */
  endpoints: readonly string[];
  tls: EtcdTls;
}

export class EtcdGateway {
  #endpoints: readonly string[];
  #agent: Agent;

  constructor({ endpoints, tls }: EtcdGatewayOptions) {
    this.#endpoints = endpoints;
    this.#agent = agentWith(tls);
  }

  /** Calls from now on use these certificates; calls under way end as they began. */
  setTls(tls: EtcdTls): void {
    const before = this.#agent;
    this.#agent = agentWith(tls);
    before.maxFreeSockets = 0; // a call that ends does not leave its socket
    for (const sockets of Object.values(before.freeSockets)) for (const socket of sockets ?? []) socket.destroy();
  }

  /** Ends calls that are under way, too. */
  close(): void {
    this.#agent.destroy();
  }

  /** The JSON of the answer. Throws EtcdError. */
  async post(path: string, body: object, { signal, timeoutMs = CALL_MS }: CallOptions = {}): Promise<unknown> {
    const text = JSON.stringify(body);
    const until = systemClock.monotonic() + timeoutMs;
    let failure: unknown;
    for (const endpoint of this.#endpoints) {
      const leftMs = Math.max(1, until - systemClock.monotonic());
      const connectMs = this.#endpoints.length === 1 ? leftMs : Math.min(CONNECT_MS, leftMs);
      try {
        return await exchange({ agent: this.#agent, endpoint, path, text, signal, timeoutMs: leftMs, connectMs });
      } catch (error) {
        failure = error;
        const { kind } = error as EtcdError;
        if (kind === "unreachable" || kind === "unanswered") this.#askLast(endpoint);
        if (kind !== "unreachable" || signal?.aborted || systemClock.monotonic() >= until) break;
      }
    }
    throw failure;
  }

  #askLast(endpoint: string): void {
    this.#endpoints = [...this.#endpoints.filter((other) => other !== endpoint), endpoint];
  }
}

function agentWith({ ca, certificate, key }: EtcdTls): Agent {
  return new Agent({
    ...{ ca, cert: certificate, key, minVersion: "TLSv1.3" },
    ...{ keepAlive: true, maxSockets: MAX_SOCKETS, maxFreeSockets: MAX_FREE_SOCKETS },
  });
}

interface Exchange {
  agent: Agent;
  endpoint: string;
  path: string;
  text: string;
  signal: AbortSignal | undefined;
  timeoutMs: number;
  connectMs: number;
}

/** One request and its answer. Throws EtcdError. */
async function exchange({ agent, endpoint, path, text, signal, timeoutMs, connectMs }: Exchange): Promise<unknown> {
  const outgoing = request(`https://${endpoint}${path}`, { method: "POST", agent });
  let isSent = false;
  const giveUp = (ms: number) =>
    setTimeout(() => outgoing.destroy(new Error(`no answer within ${Math.round(ms) / 1000} s`)), ms);
  const [deadline, connecting] = [giveUp(timeoutMs), giveUp(connectMs)];
  const abort = () => outgoing.destroy(new Error("the call was given up"));
  const connected = () => {
    isSent = true;
    clearTimeout(connecting);
  };
  outgoing.once("socket", (socket) => {
    if ((socket as TLSSocket).authorized) connected();
    else socket.once("secureConnect", connected);
  });
  if (signal?.aborted) abort();
  signal?.addEventListener("abort", abort);
  try {
    const { status, body } = await new Promise<Answer>((resolve, reject) => {
      outgoing.once("response", (response) => readWhole(response).then(resolve, reject));
      outgoing.on("error", reject);
      outgoing.setHeader("content-type", "application/json").end(text);
    });
    return parse(endpoint, status, body);
  } catch (error) {
    if (error instanceof EtcdError) throw error;
    throw errorOfConnection(endpoint, error as NodeJS.ErrnoException, isSent);
  } finally {
    clearTimeout(deadline);
    clearTimeout(connecting);
    signal?.removeEventListener("abort", abort);
  }
}

interface Answer {
  status: number;
  body: string;
}

async function readWhole(response: IncomingMessage): Promise<Answer> {
  const parts: Buffer[] = [];
  let bytes = 0;
  for await (const part of response) {
    parts.push(part as Buffer);
    bytes += (part as Buffer).length;
    if (bytes > MAX_ANSWER_BYTES)
      throw new EtcdError("answer-too-large", `the answer of etcd has more than ${MAX_ANSWER_BYTES} bytes`);
  }
  return { status: response.statusCode ?? 0, body: Buffer.concat(parts).toString() };
}

/** A call that streams puts its answer in `result`, and its failure in `error.message`. */
interface GatewayBody {
  result?: unknown;
  error?: string | { message?: string; grpc_code?: number };
  message?: string;
  code?: number;
}

function parse(endpoint: string, status: number, text: string): unknown {
  let body: GatewayBody;
  try {
    body = JSON.parse(text) as GatewayBody;
  } catch (cause) {
    const words = `what answers at ${endpoint} is not etcd's JSON gateway (HTTP status ${status})`;
    throw new EtcdError("refused", words, { cause });
  }
  const { error } = body;
  if (status === 200 && error === undefined) return body.result ?? body;
  const said = typeof error === "string" ? error : (error?.message ?? body.message ?? `HTTP status ${status}`);
  const code = body.code ?? (typeof error === "object" ? error.grpc_code : undefined) ?? 0;
  throw errorOfAnswer(endpoint, { code, said });
}
