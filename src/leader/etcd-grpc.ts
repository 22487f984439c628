// Unary calls to etcd's gRPC, over one HTTP/2 connection for each endpoint (grpc/doc/PROTOCOL-HTTP2.md): for what has to be quick.
// The JSON gateway is a client of the same gRPC within etcd, and costs a commit a third of its time.
import { type ClientHttp2Session, connect, constants, type IncomingHttpHeaders } from "node:http2";
import type { CallOptions, CallTimes, EtcdEndpoints, EtcdTls } from "./etcd-endpoints.ts";
import { answerTooLarge, EtcdError, errorOfAnswer, errorOfConnection, MAX_ANSWER_BYTES } from "./etcd-error.ts";

/** Before each message: whether it is compressed (never here), and its length. */
const PREFIX_BYTES = 5;
const LENGTH_OFFSET = 1;
const OK = "0";
const CONTENT_TYPE = "application/grpc";

interface Connection {
  endpoint: string;
  session: ClientHttp2Session;
  /** Rejects when it cannot be made. */
  ready: Promise<void>;
  isReady: boolean;
  /** Calls under way on it. */
  calls: number;
  /** It ends with the last of its calls. */
  isOld: boolean;
}

export class EtcdGrpc {
  readonly #endpoints: EtcdEndpoints;
  #tls: EtcdTls;
  // BOUNDED: by the endpoints, and by calls under way.
  readonly #connections = new Set<Connection>();

  constructor(endpoints: EtcdEndpoints, tls: EtcdTls) {
    this.#endpoints = endpoints;
    this.#tls = tls;
  }

  /** Calls from now on use these certificates; calls under way end as they began. */
  setTls(tls: EtcdTls): void {
    this.#tls = tls;
    for (const connection of this.#connections) {
      connection.isOld = true;
      this.#endIfOld(connection);
    }
  }

  /** Ends calls that are under way, too. */
  close(): void {
    for (const { session } of this.#connections) session.destroy();
    this.#connections.clear();
  }

  /** The message with which `/SERVICE/METHOD` answers. Throws EtcdError. */
  call(path: string, message: Uint8Array, options?: CallOptions): Promise<Buffer> {
    return this.#endpoints.ask((endpoint, times) => this.#exchange(endpoint, path, message, times), options);
  }

  async #exchange(endpoint: string, path: string, message: Uint8Array, times: CallTimes): Promise<Buffer> {
    const givenUp = new Promise<never>((_, reject) => times.onOver(reject));
    const connection = this.#connectionTo(endpoint);
    const { session } = connection;
    connection.calls++;
    try {
      if (!connection.isReady) await Promise.race([connection.ready, givenUp]);
      times.connected();
      const { headers, parts } = await Promise.race([request(session, path, message), givenUp]);
      return messageIn(endpoint, headers, parts);
    } catch (error) {
      if (error instanceof EtcdError) throw error;
      connection.isOld = true; // it may be what fails
      throw errorOfConnection(endpoint, error as NodeJS.ErrnoException, times.isConnected);
    } finally {
      connection.calls--;
      this.#endIfOld(connection);
    }
  }

  #endIfOld(connection: Connection): void {
    if (!connection.isOld || connection.calls > 0) return;
    connection.session.destroy();
    this.#connections.delete(connection);
  }

  #connectionTo(endpoint: string): Connection {
    for (const one of this.#connections) {
      one.isOld ||= one.session.closed || one.session.destroyed;
      if (one.endpoint === endpoint && !one.isOld) return one;
      this.#endIfOld(one);
    }
    const connection = connectionTo(endpoint, this.#tls);
    this.#connections.add(connection);
    return connection;
  }
}

function connectionTo(endpoint: string, { ca, certificate, key }: EtcdTls): Connection {
  const session = connect(`https://${endpoint}`, { ca, cert: certificate, key, minVersion: "TLSv1.3" });
  const connection: Connection = {
    endpoint,
    session,
    isReady: false,
    calls: 0,
    isOld: false,
    ready: new Promise((resolve, reject) => {
      session.once("connect", (_, socket) => {
        connection.isReady = true;
        socket.setNoDelay(true);
        session.unref(); // the deadline of a call keeps the process alive
        resolve();
      });
      session.on("error", reject);
      session.once("close", () => reject(new Error("the connection was closed")));
    }),
  };
  connection.ready.catch(() => {}); // of a call that was given up
  return connection;
}

interface Answer {
  /** The trailers, or the headers of an answer that has nothing else. */
  headers: IncomingHttpHeaders;
  parts: readonly Buffer[];
}

function request(session: ClientHttp2Session, path: string, message: Uint8Array): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const stream = session.request({
      [constants.HTTP2_HEADER_METHOD]: "POST",
      [constants.HTTP2_HEADER_PATH]: path,
      [constants.HTTP2_HEADER_CONTENT_TYPE]: CONTENT_TYPE,
      [constants.HTTP2_HEADER_TE]: "trailers",
    });
    const parts: Buffer[] = [];
    let bytes = 0;
    let headers: IncomingHttpHeaders = {};
    stream.on("response", (said) => {
      headers = said;
    });
    stream.on("data", (part: Buffer) => {
      parts.push(part);
      bytes += part.length;
      if (bytes > MAX_ANSWER_BYTES) stream.destroy(answerTooLarge());
    });
    stream.on("trailers", (said) => {
      headers = { ...headers, ...said };
    });
    stream.on("error", reject);
    stream.on("close", () => {
      if (headers[constants.HTTP2_HEADER_STATUS] === undefined) reject(new Error("the connection ended"));
      else resolve({ headers, parts });
    });
    stream.end(framed(message));
  });
}

function framed(message: Uint8Array): Buffer {
  const frame = Buffer.allocUnsafe(PREFIX_BYTES + message.length);
  frame[0] = 0;
  frame.writeUInt32BE(message.length, LENGTH_OFFSET);
  frame.set(message, PREFIX_BYTES);
  return frame;
}

/** Throws EtcdError when that is none, or is a failure. */
function messageIn(endpoint: string, headers: IncomingHttpHeaders, parts: readonly Buffer[]): Buffer {
  const { "grpc-status": code, "grpc-message": said = "", "content-type": type = "", ":status": status } = headers;
  if (Number(status) !== 200 || !type.startsWith(CONTENT_TYPE))
    throw new EtcdError("refused", `what answers at ${endpoint} is not etcd (HTTP status ${status})`);
  // Without its trailers the answer is cut: whether the call was carried out is not known.
  if (code === undefined) throw errorOfConnection(endpoint, new Error("its answer was cut"), true);
  if (code !== OK) throw errorOfAnswer(endpoint, { code: Number(code), said: textOf(`${said}`) });
  const body = Buffer.concat(parts);
  if (body.length < PREFIX_BYTES || body[0] !== 0 || body.readUInt32BE(LENGTH_OFFSET) !== body.length - PREFIX_BYTES)
    throw errorOfConnection(endpoint, new Error("its answer cannot be read"), true);
  return body.subarray(PREFIX_BYTES);
}

/** A message's text, percent-encoded. */
function textOf(encoded: string): string {
  try {
    return decodeURIComponent(encoded);
  } catch {
    return encoded;
  }
}
