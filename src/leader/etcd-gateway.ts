// POST calls to etcd's JSON gateway (/v3/...), over HTTPS with a client certificate.
import type { IncomingMessage } from "node:http";
import { Agent, request } from "node:https";
import type { TLSSocket } from "node:tls";
import type { CallOptions, CallTimes, EtcdEndpoints, EtcdTls } from "./etcd-endpoints.ts";
import { answerTooLarge, EtcdError, errorOfAnswer, errorOfConnection, MAX_ANSWER_BYTES } from "./etcd-error.ts";

const MAX_SOCKETS = 32;
const MAX_FREE_SOCKETS = 4;

export class EtcdGateway {
  readonly #endpoints: EtcdEndpoints;
  #agent: Agent;

  constructor(endpoints: EtcdEndpoints, tls: EtcdTls) {
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
  post(path: string, body: object, options?: CallOptions): Promise<unknown> {
    const [agent, text] = [this.#agent, JSON.stringify(body)];
    return this.#endpoints.ask((endpoint, times) => exchange({ agent, endpoint, path, text, times }), options);
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
  times: CallTimes;
}

/** One request and its answer. Throws EtcdError. */
async function exchange({ agent, endpoint, path, text, times }: Exchange): Promise<unknown> {
  const outgoing = request(`https://${endpoint}${path}`, { method: "POST", agent });
  outgoing.once("socket", (socket) => {
    if ((socket as TLSSocket).authorized) times.connected();
    else socket.once("secureConnect", () => times.connected());
  });
  times.onOver((reason) => outgoing.destroy(reason));
  try {
    const { status, body } = await new Promise<Answer>((resolve, reject) => {
      outgoing.once("response", (response) => readWhole(response).then(resolve, reject));
      outgoing.on("error", reject);
      outgoing.setHeader("content-type", "application/json").end(text);
    });
    return parse(endpoint, status, body);
  } catch (error) {
    if (error instanceof EtcdError) throw error;
    throw errorOfConnection(endpoint, error as NodeJS.ErrnoException, times.isConnected);
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
    if (bytes > MAX_ANSWER_BYTES) throw answerTooLarge();
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
