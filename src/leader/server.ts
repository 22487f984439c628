// A manager's HTTP face, on TLS 1.3. All but a join is asked with a certificate of the cluster. A session is one POST whose
// answer never ends: NDJSON, a StreamMessage a line.
//   POST /v1/join                   JoinRequest  -> JoinAnswer, without a certificate
//   POST /v1/renew                  RenewRequest -> RenewAnswer
//   GET  /v1/leader                 -> 204, when this manager leads
//   POST /v1/sessions               SessionRequest -> stream
//   POST /v1/sessions/:id/report    Report       -> 204
//   POST /v1/sessions/:id/beats     lines as they come, a revision each -> 204 at their end
//   POST /v1/commands               Command      -> CommandResult
//   POST /v1/tasks/:id/log          LogQuery     -> bytes as they come
//   POST /v1/sessions/:id/logs/:request          bytes as they come -> 204 at their end
//   POST /v1/sessions/:id/logs/:request/refusal  LogRefusal -> 204
//   GET  /v1/applied?revision=&timeoutMs=        -> { behind: [node names] }
//   /operator/*                     the API of the agent (api/server.ts), for users
// A failure is answered as lib/failure.ts says; by a standby with 421 and the leader's address.
import type { Server } from "node:http";
import { createServer } from "node:https";
import type { AddressInfo } from "node:net";
import { Readable } from "node:stream";
import { finished } from "node:stream/promises";
import type { TLSSocket } from "node:tls";
import { type FastifyInstance, type FastifyRequest, fastify } from "fastify";
import { z } from "zod";
import type { CommandInput } from "../cluster/commands.ts";
import {
  CALLER_HEADER,
  CLUSTER_HEADER,
  type LogQuery,
  type LogRefusal,
  type Report,
  type SessionRequest,
} from "../cluster/protocol.ts";
import { Id } from "../cluster/schema.ts";
import type { State } from "../cluster/tables.ts";
import { check } from "../lib/check.ts";
import type { Clock } from "../lib/clock.ts";
import { UserError } from "../lib/errors.ts";
import { answerBytes, answerFailures } from "../lib/http-server.ts";
import type { Log } from "../lib/log.ts";
import { onBehalfOf } from "../lib/on-behalf.ts";
import { shortened } from "../lib/shortened.ts";
import type { Credentials } from "../trust/credentials.ts";
import { followCredentials, serverTls } from "../trust/tls.ts";
import { MAX_BY } from "./audit.ts";
import { type Peer, requireManager, requireOperator } from "./authority.ts";
import { takeBeats } from "./beats.ts";
import { addressOf, identify } from "./identify.ts";
import type { Joining } from "./joining.ts";
import { LineSink } from "./line-sink.ts";
import type { PeerCalls } from "./peer-calls.ts";
import { refusePlainHttp } from "./plain-http.ts";
import { endRevoked } from "./revoked.ts";
import { BYTES, Handshakes, limitBodies, limitConnections } from "./server-limits.ts";

interface ManagerServerOptions {
  host: string;
  /** 0: any free one. */
  port: number;
  log: Log;
  clock: Clock;
  /** This manager's certificate, and whose it takes. */
  credentials: Credentials;
  /** The newest state that this manager has: the leader's own, or a standby's copy. */
  state(): State;
  /** The leader. Throws MisdirectedError on a standby, and UserError 503 while this manager knows of none. */
  calls(): PeerCalls;
  joining: Joining;
  /** Adds what users ask by /operator; left out: nothing. */
  operator?: (server: FastifyInstance) => void;
  /** Adds what managers ask of each other; left out: nothing. `require` throws when another than a manager asks. */
  managers?: (server: FastifyInstance, require: (request: FastifyRequest) => void) => void;
  /** How long a request may take to arrive, its handshake, head and body each; left out: see REQUEST_TIMEOUT_MS. */
  timeoutMs?: number;
}

export interface ManagerServer {
  readonly port: number;
  close(): Promise<void>;
}

declare module "fastify" {
  interface FastifyRequest {
    /** The client, where a certificate is needed. */
    peer: Peer;
  }
}

const MAX_BODY_BYTES = 16 * 1024 * 1024;
/** A join comes from a client that has shown no certificate yet. */
const MAX_JOIN_BYTES = 64 * 1024;

/** A node on a slow line needs some seconds for a large report. */
const REQUEST_TIMEOUT_MS = 30_000;

const AppliedQuery = z.object({
  revision: z.coerce.number().int().min(0),
  timeoutMs: z.coerce.number().int().min(0).max(600_000),
});

/** Resolves when the manager answers on the address. Throws when the address cannot be had. */
export async function serveManager(options: ManagerServerOptions): Promise<ManagerServer> {
  const { host, port, log, credentials, timeoutMs = REQUEST_TIMEOUT_MS } = options;
  const limits = { handshakeTimeout: timeoutMs, connectionsCheckingInterval: timeoutMs };
  const secure = createServer({ ...serverTls(credentials), ...limits });
  const handshakes = new Handshakes(secure);
  limitConnections(secure, handshakes, timeoutMs);
  refusePlainHttp(secure, handshakes);
  const stopFollowing = followCredentials(secure, credentials);
  const server = fastify({
    bodyLimit: MAX_BODY_BYTES,
    forceCloseConnections: true,
    serverFactory: (handler) => secure.on("request", handler) as unknown as Server,
  });
  limitBodies(server, timeoutMs);
  answerFailures(server, log);
  server.decorateRequest("peer");
  server.post("/v1/join", { bodyLimit: MAX_JOIN_BYTES }, (request) =>
    options.joining.join(request.body, addressOf(request.socket)),
  );
  server.register(async (trusted) => {
    trusted.addHook("onRequest", async (request) => {
      request.peer = identify(request.socket as TLSSocket);
    });
    addRoutes(trusted, options);
    options.managers?.(trusted, ({ peer }) => requireManager(options.state(), peer.subject, options.clock.now()));
  });
  const { operator } = options;
  if (operator !== undefined) {
    const routes = async (trusted: FastifyInstance) => addOperatorRoutes(trusted, operator, options);
    server.register(routes, { prefix: "/operator" });
  }
  await server.listen({ host, port });
  const stopEnding = endRevoked(secure, options);
  const { port: boundPort } = secure.address() as AddressInfo;
  log.info("answers nodes and users", { address: host, port: String(boundPort) });
  return {
    port: boundPort,
    async close() {
      stopFollowing();
      stopEnding();
      handshakes.destroyAll();
      await server.close();
    },
  };
}

/** The API of the agent, for users and for other managers. */
async function addOperatorRoutes(
  server: FastifyInstance,
  add: (server: FastifyInstance) => void,
  { state, calls, clock }: ManagerServerOptions,
): Promise<void> {
  server.addHook("onRequest", async (request) => {
    request.peer = identify(request.socket as TLSSocket);
    const { kind, id } = request.peer.subject;
    if (kind === "user" && !state().users.has(id)) calls(); // a standby knows no users, and names the leader
    requireOperator(state(), request.peer.subject, clock.now());
  });
  // Once the body is there: its events are none of the request's.
  server.addHook("preHandler", ({ peer: { subject, from }, headers }, _reply, done) => {
    const by = headers[CALLER_HEADER];
    const peer = `${subject.kind} ${subject.name} at ${from}`;
    onBehalfOf(by === undefined ? peer : `${shortened(String(by), MAX_BY)} on ${peer}`, done);
  });
  add(server);
}

function addRoutes(server: FastifyInstance, { calls, joining, log }: ManagerServerOptions): void {
  // A path here names ids only.
  server.addHook("preValidation", async ({ params }) => {
    for (const id of Object.values(params ?? {})) check(Id, id);
  });
  server.addHook("onRequest", async ({ headers }) => {
    const cluster = headers[CLUSTER_HEADER];
    if (cluster !== undefined) calls().requireCluster(String(cluster));
  });
  // What comes as it is made is handed on as it arrives, not read.
  server.addContentTypeParser(BYTES, (_, payload, done) => done(null, payload));
  server.post("/v1/renew", ({ body, peer }) => joining.renew(body, peer));
  server.get("/v1/leader", async ({ peer }, reply) => {
    calls().requireLeading(peer);
    return reply.code(204).send();
  });
  server.post("/v1/sessions", async ({ body, peer }, reply) => {
    const leader = calls();
    const sink = new LineSink(reply.raw, log);
    const sessionId = await leader.openSession(peer, body as SessionRequest, sink);
    reply.hijack();
    reply.raw.once("close", () => leader.closeSession(sessionId));
    if (reply.raw.destroyed) leader.closeSession(sessionId);
  });
  server.post<{ Params: { id: string } }>("/v1/sessions/:id/report", async ({ body, params, peer }, reply) => {
    await calls().report(peer, params.id, body as Report);
    return reply.code(204).send();
  });
  server.post<{ Params: { id: string } }>("/v1/sessions/:id/beats", async ({ body, params, peer }, reply) => {
    await takeBeats(bytesOf(body), (applied) => calls().beat(peer, params.id, applied));
    return reply.code(204).send();
  });
  server.post("/v1/commands", ({ body, headers, peer }) => {
    const by = headers[CALLER_HEADER];
    return calls().execute(peer, body as CommandInput, by === undefined ? undefined : String(by));
  });
  server.post<{ Params: { id: string } }>("/v1/tasks/:id/log", async ({ body, params, peer }, reply) => {
    answerBytes(reply, await calls().readLog(peer, params.id, body as LogQuery));
  });
  server.post<{ Params: { id: string; request: string } }>(
    "/v1/sessions/:id/logs/:request",
    async ({ body, params, peer }, reply) => {
      const log = bytesOf(body);
      calls().bringLog(peer, params.id, params.request, log);
      await finished(log).catch(() => {}); // the reader of the log gets the error
      return reply.code(204).send();
    },
  );
  server.post<{ Params: { id: string; request: string } }>(
    "/v1/sessions/:id/logs/:request/refusal",
    async ({ body, params, peer }, reply) => {
      calls().refuseLog(peer, params.id, params.request, body as LogRefusal);
      return reply.code(204).send();
    },
  );
  server.get("/v1/applied", async ({ query, peer }) => {
    const { revision, timeoutMs } = check(AppliedQuery, query);
    return { behind: await calls().waitApplied(peer, revision, timeoutMs) };
  });
}

/** Throws UserError 400 when the request has something else. */
function bytesOf(body: unknown): Readable {
  if (body instanceof Readable) return body;
  throw new UserError(400, `this call takes bytes (${BYTES}), and no JSON`);
}
