// The leader's HTTP face. A session is one POST whose answer never ends: NDJSON, a StreamMessage a line.
//   GET  /v1/leader                 -> 204, when this manager leads
//   POST /v1/sessions               SessionRequest -> stream
//   POST /v1/sessions/:id/report    Report       -> 204
//   POST /v1/commands               Command      -> CommandResult
//   POST /v1/tasks/:id/log          LogQuery     -> bytes as they come
//   POST /v1/sessions/:id/logs/:request          bytes as they come -> 204 at their end
//   POST /v1/sessions/:id/logs/:request/refusal  LogRefusal -> 204
//   GET  /v1/applied?revision=&timeoutMs=        -> { behind: [node names] }
// A failure is answered as lib/failure.ts says.
import type { Server } from "node:http";
import type { AddressInfo } from "node:net";
import type { Readable } from "node:stream";
import { finished } from "node:stream/promises";
import { type FastifyInstance, type FastifyRequest, fastify } from "fastify";
import { z } from "zod";
import type { CommandInput } from "../cluster/commands.ts";
import { rowsNamed } from "../cluster/lookup.ts";
import {
  CLUSTER_HEADER,
  type LogQuery,
  type LogRefusal,
  type Report,
  type SessionRequest,
} from "../cluster/protocol.ts";
import { Id } from "../cluster/schema.ts";
import { check } from "../lib/check.ts";
import { answerBytes, answerFailures } from "../lib/http-server.ts";
import type { Log } from "../lib/log.ts";
import type { Leader } from "./leader.ts";
import { LineSink } from "./line-sink.ts";

interface SessionServerOptions {
  host: string;
  /** 0: any free one. */
  port: number;
  log: Log;
  /** How long a request may take to arrive, head and body each; left out: see REQUEST_TIMEOUT_MS. */
  timeoutMs?: number;
}

export interface SessionServer {
  readonly port: number;
  close(): Promise<void>;
}

const MAX_BODY_BYTES = 16 * 1024 * 1024;

/** A node on a slow line needs some seconds for a large report. */
const REQUEST_TIMEOUT_MS = 30_000;
/** How long a connection may be idle between two requests: longer than a node's beat. */
const KEEP_ALIVE_MS = 72_000;
/** How many connections all hosts together may have. A node has two or three. */
const MAX_CONNECTIONS = 8192;
/** How many connections one address may have. Each log that a client follows takes one. */
const MAX_CONNECTIONS_OF_ONE = 1024;

const BYTES = "application/octet-stream";

const AppliedQuery = z.object({
  revision: z.coerce.number().int().min(0),
  timeoutMs: z.coerce.number().int().min(0).max(600_000),
});

/** Resolves when the leader answers on the address. Throws when the address cannot be had. */
export async function serveSessions(
  leader: Leader,
  { host, port, log, timeoutMs = REQUEST_TIMEOUT_MS }: SessionServerOptions,
): Promise<SessionServer> {
  const server = fastify({ bodyLimit: MAX_BODY_BYTES, forceCloseConnections: true });
  limitConnections(server.server, timeoutMs);
  limitBodies(server, timeoutMs);
  answerFailures(server, log);
  addRoutes(server, leader, log);
  await server.listen({ host, port });
  const { port: boundPort } = server.server.address() as AddressInfo;
  log.warn("sessions are not encrypted: who reaches this address can change the cluster", {
    address: host,
    port: String(boundPort),
  });
  return { port: boundPort, close: () => server.close() };
}

/** Ends connections of hosts that send no request or connect too often, so that they take no room from others. */
function limitConnections(server: Server, timeoutMs: number): void {
  server.headersTimeout = timeoutMs;
  server.keepAliveTimeout = KEEP_ALIVE_MS;
  server.maxConnections = MAX_CONNECTIONS;
  // BOUNDED: by MAX_CONNECTIONS; keyed by address.
  const counts = new Map<string, number>();
  server.on("connection", (socket) => {
    const address = socket.remoteAddress ?? "";
    const count = (counts.get(address) ?? 0) + 1;
    counts.set(address, count);
    socket.once("close", () => {
      const left = (counts.get(address) ?? 1) - 1;
      if (left === 0) counts.delete(address);
      else counts.set(address, left);
    });
    if (count > MAX_CONNECTIONS_OF_ONE) socket.destroy();
  });
}

/** Ends a request whose body does not come in time. The server's own limit would also end logs, which come as they are written. */
function limitBodies(server: FastifyInstance, timeoutMs: number): void {
  const timers = new WeakMap<FastifyRequest, NodeJS.Timeout>();
  server.addHook("onRequest", async (request) => {
    if (request.headers["content-type"] === BYTES) return;
    timers.set(
      request,
      setTimeout(() => request.raw.destroy(), timeoutMs),
    );
  });
  server.addHook("preValidation", async (request) => clearTimeout(timers.get(request)));
  server.addHook("onRequestAbort", async (request) => clearTimeout(timers.get(request)));
  server.addHook("onError", async (request) => clearTimeout(timers.get(request)));
}

function addRoutes(server: FastifyInstance, leader: Leader, log: Log): void {
  // A path here names ids only.
  server.addHook("preValidation", async ({ params }) => {
    for (const id of Object.values(params ?? {})) check(Id, id);
  });
  server.get("/v1/leader", async (_, reply) => {
    leader.requireLeading();
    return reply.code(204).send();
  });
  server.post("/v1/sessions", async (request, reply) => {
    const sink = new LineSink(reply.raw, log);
    const asked = request.body as SessionRequest;
    const [node] = typeof asked?.name === "string" ? rowsNamed(leader.state.nodes, asked.name) : [];
    const sessionId = await leader.openSession({ id: node?.id ?? "" }, asked, sink);
    reply.hijack();
    reply.raw.once("close", () => leader.closeSession(sessionId));
    if (reply.raw.destroyed) leader.closeSession(sessionId);
  });
  server.post<{ Params: { id: string } }>("/v1/sessions/:id/report", async (request, reply) => {
    await leader.report(request.params.id, request.body as Report);
    return reply.code(204).send();
  });
  server.addHook("onRequest", async ({ headers }) => {
    const cluster = headers[CLUSTER_HEADER];
    if (cluster !== undefined) leader.requireCluster(String(cluster));
  });
  server.post("/v1/commands", (request) => leader.execute(request.body as CommandInput));
  server.post<{ Params: { id: string } }>("/v1/tasks/:id/log", async (request, reply) => {
    answerBytes(reply, await leader.readLog(request.params.id, request.body as LogQuery));
  });
  // A log is handed on as it arrives, not read.
  server.addContentTypeParser(BYTES, (_, payload, done) => done(null, payload));
  server.post<{ Params: { id: string; request: string } }>("/v1/sessions/:id/logs/:request", async (request, reply) => {
    const log = request.body as Readable;
    leader.bringLog(request.params.id, request.params.request, log);
    await finished(log).catch(() => {}); // the reader of the log gets the error
    return reply.code(204).send();
  });
  server.post<{ Params: { id: string; request: string } }>(
    "/v1/sessions/:id/logs/:request/refusal",
    async (request, reply) => {
      leader.refuseLog(request.params.id, request.params.request, request.body as LogRefusal);
      return reply.code(204).send();
    },
  );
  server.get("/v1/applied", async (request) => {
    const { revision, timeoutMs } = check(AppliedQuery, request.query);
    return { behind: await leader.waitApplied(revision, timeoutMs) };
  });
}
