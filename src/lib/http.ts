// The one HTTP client: the agent's calls to a manager, and the calls of overlayctl and the plugins to the agent. Every
// call has a deadline. What the server refuses is thrown as the error that its handler threw (failure.ts).
import {
  Agent,
  type ClientRequest,
  request as httpRequest,
  type IncomingHttpHeaders,
  type IncomingMessage,
} from "node:http";
import { request as httpsRequest, Agent as SecureAgent } from "node:https";
import type { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { TLSSocket } from "node:tls";
import { DeadlineError } from "./deadline.ts";
import { errorOf } from "./failure.ts";

/** Where the server listens, and what keeps the connections to it. `address` is HOST:PORT. */
type HttpServer = { readonly socketPath: string } | { readonly address: string; readonly agent: Agent };

interface HttpRequest {
  method: "GET" | "POST" | "DELETE";
  path: string;
  headers?: Readonly<Record<string, string>>;
  /** Sent as JSON. */
  body?: object;
  timeoutMs: number;
  /** Ends the request, and the answer when it has begun. */
  signal?: AbortSignal;
  /** Called with the headers of an answer that is no refusal, before `call` resolves. */
  onHeaders?(headers: IncomingHttpHeaders): void;
}

/** The server cannot have received the request: another one may be asked. `message` is the error's code where it has one. */
export class UnreachableError extends Error {
  override name = "UnreachableError";
}

/** The server may have received and carried out the request, but its answer did not arrive. */
export class AnswerLostError extends Error {
  override name = "AnswerLostError";
}

const MAX_ANSWER_BYTES = 256 * 1024 * 1024;
const KEEP_ALIVE_MS = 30_000;
/** Keeps connections to the agent for the calls of one command, and for much less time than its server does. */
const LOCAL_CONNECTIONS = new Agent({ keepAlive: true, timeout: 1000 });

/** The JSON of the answer; undefined for an answer without a body. The whole answer arrives within `timeoutMs`. */
export async function call<T>(server: HttpServer, request: HttpRequest): Promise<T> {
  const exchange = new Exchange(server, request, LOCAL_CONNECTIONS);
  try {
    exchange.sendJson(request.body);
    const response = await exchange.response();
    request.onHeaders?.(response.headers);
    const text = await exchange.read(response);
    return (text === "" ? undefined : JSON.parse(text)) as T;
  } catch (error) {
    if (error instanceof SyntaxError) throw new Error(`what answers there is not overlayd: ${error.message}`);
    throw error;
  } finally {
    exchange.endDeadline();
  }
}

/** The bytes of an answer. The answer begins within `timeoutMs`, and may then take as long as it likes. */
export async function stream(server: HttpServer, request: HttpRequest): Promise<Readable> {
  const exchange = new Exchange(server, request);
  try {
    exchange.sendJson(request.body);
    return await exchange.response();
  } finally {
    exchange.endDeadline();
  }
}

/** Sends bytes, which may take as long as they like once the server is connected, within `timeoutMs`. Resolves at their end. */
export async function upload(
  server: HttpServer,
  { bytes, ...request }: { path: string; bytes: Readable; timeoutMs: number },
): Promise<void> {
  const exchange = new Exchange(server, { ...request, method: "POST", headers: BYTES_CONTENT });
  exchange.whenConnected(() => exchange.endDeadline());
  const sending = pipeline(bytes, exchange.request);
  sending.catch(() => {}); // the answer says why
  try {
    await exchange.text();
    // A server that answers before the end wants no more.
    if (exchange.request.writableFinished) await sending;
  } finally {
    exchange.endDeadline();
    exchange.request.destroy();
  }
}

const BYTES_CONTENT = { "content-type": "application/octet-stream" };

/** One request and its answer. */
class Exchange {
  readonly request: ClientRequest;
  readonly #deadline: NodeJS.Timeout;
  readonly #answer: Promise<IncomingMessage>;
  #begunAnswer: IncomingMessage | undefined;
  /** Whether the server is connected, so that it may have received something. */
  #isConnected = false;

  constructor(
    server: HttpServer,
    { method, path, headers = {}, timeoutMs, signal }: Omit<HttpRequest, "body">,
    localAgent?: Agent,
  ) {
    const options = { path, method, headers, ...(signal && { signal }) };
    // The path is none of the URL's, which would follow a name such as "..".
    if ("socketPath" in server) {
      this.request = httpRequest("http://localhost", { ...options, socketPath: server.socketPath, agent: localAgent });
    } else if (server.agent instanceof SecureAgent) {
      this.request = httpsRequest(`https://${server.address}`, { ...options, agent: server.agent });
    } else {
      this.request = httpRequest(`http://${server.address}`, { ...options, agent: server.agent });
    }
    this.whenConnected(() => {
      this.#isConnected = true;
    });
    this.#answer = new Promise((resolve, reject) => {
      this.request.once("response", (response) => {
        this.#begunAnswer = response;
        resolve(response);
      });
      this.request.on("error", (error) => reject(this.#failed(error)));
    });
    this.#answer.catch(() => {}); // an upload may fail before its answer is waited for
    this.#deadline = setTimeout(() => {
      (this.#begunAnswer ?? this.request).destroy(new DeadlineError(`no answer within ${timeoutMs / 1000} s`));
    }, timeoutMs);
  }

  whenConnected(call: () => void): void {
    this.request.once("socket", (socket) => {
      socket.setKeepAlive(true, KEEP_ALIVE_MS); // notices when the other machine is gone
      // Before its handshake is done, a server has nothing of the request.
      if (socket.connecting) socket.once(socket instanceof TLSSocket ? "secureConnect" : "connect", call);
      else call();
    });
  }

  sendJson(body: object | undefined): void {
    if (body === undefined) this.request.end();
    else this.request.setHeader("content-type", "application/json").end(JSON.stringify(body));
  }

  /** The answer, once its head is there. Throws what the server refuses. */
  async response(): Promise<IncomingMessage> {
    const response = await this.#answer;
    const status = response.statusCode ?? 0;
    if (status >= 200 && status < 300) return response;
    throw errorOf(status, await this.read(response));
  }

  async text(): Promise<string> {
    return this.read(await this.response());
  }

  endDeadline(): void {
    clearTimeout(this.#deadline);
  }

  async read(response: IncomingMessage): Promise<string> {
    const parts: Buffer[] = [];
    let bytes = 0;
    try {
      for await (const part of response) {
        parts.push(part as Buffer);
        bytes += (part as Buffer).length;
        if (bytes > MAX_ANSWER_BYTES) throw new Error(`the answer has more than ${MAX_ANSWER_BYTES} bytes`);
      }
    } catch (error) {
      throw this.#failed(error as NodeJS.ErrnoException);
    }
    return Buffer.concat(parts).toString();
  }

  #failed(cause: NodeJS.ErrnoException): Error {
    const reason = reasonOf(cause);
    return this.#isConnected ? new AnswerLostError(reason, { cause }) : new UnreachableError(reason, { cause });
  }
}

/** What the system says has a code of its own; what TLS says of a certificate is in words. */
function reasonOf({ code, message }: NodeJS.ErrnoException): string {
  if (/wrong version number/.test(message)) return "what answers there does not speak TLS";
  return code !== undefined && /^E[A-Z0-9]+$/.test(code) ? code : message;
}
