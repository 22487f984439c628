// What the leader's HTTP face and the agent's have in common: how they answer failures,
// long listings, and bytes that come as they are made.

import type { OutgoingHttpHeaders } from "node:http";
import type { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { setImmediate } from "node:timers/promises";
import type { FastifyInstance, FastifyReply } from "fastify";
import { systemClock } from "./clock.ts";
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

/** How long rows are written before other work of the thread has its turn. */
const PIECE_MS = 5;

/** Answers with the JSON array of the rows' views, in pieces: a long one does not keep the thread from other work. */
export function answerRows<T>(reply: FastifyReply, log: Log, rows: readonly T[], viewOf: (row: T) => object): void {
  reply.hijack();
  reply.raw.writeHead(200, { ...reply.getHeaders(), "content-type": "application/json" } as OutgoingHttpHeaders);
  pipeline(piecesOf(rows, viewOf), reply.raw).catch((err: NodeJS.ErrnoException) => {
    if (err.code !== "ERR_STREAM_PREMATURE_CLOSE") log.error("a listing ended early", { path: reply.request.url, err });
  });
}

async function* piecesOf<T>(rows: readonly T[], viewOf: (row: T) => object): AsyncGenerator<string> {
  let piece = "[";
  let begun = systemClock.monotonic();
  for (const [i, row] of rows.entries()) {
    piece += `${i === 0 ? "" : ","}${JSON.stringify(viewOf(row))}`;
    if (systemClock.monotonic() - begun < PIECE_MS) continue;
    yield piece;
    await setImmediate();
    piece = "";
    begun = systemClock.monotonic();
  }
  yield `${piece}]`;
}

/** Answers with bytes as they come. The head goes at once, so that the client need not wait for the first byte. */
export function answerBytes(reply: FastifyReply, bytes: Readable): void {
  reply.hijack();
  reply.raw.writeHead(200, { "content-type": "application/octet-stream" });
  reply.raw.flushHeaders();
  pipeline(bytes, reply.raw).catch(() => {}); // a client that goes ends the bytes; one that stays sees them end early
}
