// What the leader's HTTP face and the agent's have in common: how they answer failures, and bytes that come as they are made.

import type { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import type { FastifyInstance, FastifyReply } from "fastify";
import { type Failure, failureOf } from "./failure.ts";
import type { Log } from "./log.ts";

/** Answers every failed request as failure.ts says. */
export function answerFailures(server: FastifyInstance, log: Log): void {
  server.setNotFoundHandler((request, reply) =>
    reply.code(404).send({ error: `no such call: ${request.method} ${request.url}` } satisfies Failure),
  );
  server.setErrorHandler((error, request, reply) => {
    const { status, failure } = failureOf(error);
    if (status === 500) log.error("a request failed", { path: request.url, err: error });
    return reply.code(status).send(failure);
  });
}

/** Answers with bytes as they come. The head goes at once, so that the client need not wait for the first byte. */
export function answerBytes(reply: FastifyReply, bytes: Readable): void {
  reply.hijack();
  reply.raw.writeHead(200, { "content-type": "application/octet-stream" });
  reply.raw.flushHeaders();
  pipeline(bytes, reply.raw).catch(() => {}); // a client that goes ends the bytes; one that stays sees them end early
}
