// The HTTP client against servers that answer, refuse, fall silent or go away, and what it makes of each.
import { execFile } from "node:child_process";
import { once } from "node:events";
import { rm } from "node:fs/promises";
import { Agent, createServer, type IncomingMessage, type RequestListener, type ServerResponse } from "node:http";
import { type AddressInfo, createServer as createTcpServer, type Server } from "node:net";
import { join } from "node:path";
import { PassThrough, Readable } from "node:stream";
import { text } from "node:stream/consumers";
import { promisify } from "node:util";
import test, { type ExecutionContext } from "ava";
import { fastify } from "fastify";
import { z } from "zod";
import { check } from "../../src/lib/check.ts";
import { PlatformError, UserError } from "../../src/lib/errors.ts";
import { errorOf, failureOf } from "../../src/lib/failure.ts";
import { AnswerLostError, call, stream, UnreachableError, upload } from "../../src/lib/http.ts";
import { answerBytes, answerFailures } from "../../src/lib/http-server.ts";
import { silentLog } from "../../src/lib/log.ts";
import { temporaryDirectory } from "../temporary.ts";

const execute = promisify(execFile);

/** Longer than any test takes: such a deadline never passes. */
const NEVER_MS = 600_000;
/** A deadline that passes; a busy machine connects before it. */
const SOON_MS = 3000;

interface Address {
  address: string;
  agent: Agent;
}

function addressOf(t: ExecutionContext, server: Server): Address {
  const agent = new Agent({ keepAlive: true });
  t.teardown(() => agent.destroy());
  return { address: `127.0.0.1:${(server.address() as AddressInfo).port}`, agent };
}

async function listening(t: ExecutionContext, server: Server): Promise<Address> {
  await once(server.listen(0, "127.0.0.1"), "listening");
  t.teardown(() => server.close());
  return addressOf(t, server);
}

function answering(t: ExecutionContext, listener: RequestListener): Promise<Address> {
  const server = createServer(listener);
  t.teardown(() => server.closeAllConnections());
  return listening(t, server);
}

const get = { method: "GET", path: "/" } as const;

test("a call sends JSON and returns the JSON of the answer", async (t) => {
  const server = await answering(t, async (request: IncomingMessage, response: ServerResponse) => {
    const { method, url, headers } = request;
    response.end(JSON.stringify({ method, url, type: headers["content-type"], body: await text(request) }));
  });
  const asked = { method: "POST", path: "/v1/things?x=1", body: { a: 1 }, timeoutMs: NEVER_MS } as const;
  t.deepEqual(await call(server, asked), {
    method: "POST",
    url: "/v1/things?x=1",
    type: "application/json",
    body: '{"a":1}',
  });
  t.like(await call(server, { ...get, timeoutMs: NEVER_MS }), { method: "GET", body: "" });
});

test("calls one after the other to the agent take one connection, which does not keep the process", async (t) => {
  const directory = temporaryDirectory("http");
  t.teardown(() => rm(directory, { recursive: true }));
  const socketPath = join(directory, "s");
  let connections = 0;
  const server = createServer((_, response) => response.end("{}"));
  server.on("connection", () => connections++);
  await once(server.listen(socketPath), "listening");
  t.teardown(() => server.closeAllConnections());
  t.teardown(() => server.close());
  for (let i = 0; i < 5; i++) await call({ socketPath }, { ...get, timeoutMs: NEVER_MS });
  t.is(connections, 1);
  const client = `import { call } from ${JSON.stringify(new URL("../../src/lib/http.js", import.meta.url))};
    await call({ socketPath: process.argv[1] }, { method: "GET", path: "/", timeoutMs: 60_000 });
    setImmediate(() => console.log(process.getActiveResourcesInfo().filter((name) => name.startsWith("Pipe")).join()));`;
  const ran = await execute(process.execPath, ["--input-type=module", "-e", client, socketPath]);
  t.is(ran.stdout.trim(), "");
});

test("calls one after the other to one manager take one connection", async (t) => {
  const ports = new Set<number>();
  const server = await answering(t, (request, response) => {
    ports.add(request.socket.remotePort!);
    response.end("{}");
  });
  for (let i = 0; i < 5; i++) await call(server, { ...get, timeoutMs: NEVER_MS });
  t.is(ports.size, 1);
});

test("an answer without a body is undefined", async (t) => {
  const server = await answering(t, (_, response) => response.writeHead(204).end());
  t.is(await call(server, { ...get, timeoutMs: NEVER_MS }), undefined);
});

test("a server where nothing listens is unreachable", async (t) => {
  const server = createTcpServer();
  const gone = await listening(t, server);
  server.close();
  await once(server, "close");
  const options = { instanceOf: UnreachableError, message: "ECONNREFUSED" };
  await t.throwsAsync(call(gone, { ...get, timeoutMs: NEVER_MS }), options);
  await t.throwsAsync(stream(gone, { ...get, timeoutMs: NEVER_MS }), options);
  await t.throwsAsync(upload(gone, { path: "/", bytes: new PassThrough(), timeoutMs: NEVER_MS }), options);
});

test("a socket that is not there is unreachable", async (t) => {
  const server = { socketPath: "/nowhere/overlayd.sock" };
  await t.throwsAsync(call(server, { ...get, timeoutMs: NEVER_MS }), {
    instanceOf: UnreachableError,
    message: "ENOENT",
  });
});

test("a server that goes before it answers has lost the answer", async (t) => {
  const server = await answering(t, ({ socket }) => socket.destroy());
  await t.throwsAsync(call(server, { ...get, timeoutMs: NEVER_MS }), {
    instanceOf: AnswerLostError,
    message: "ECONNRESET",
  });
});

test("an answer that is cut short is lost", async (t) => {
  const server = await answering(t, ({ socket }, response) => {
    response.writeHead(200, { "content-length": "100" }).write("{", () => socket.destroy());
  });
  await t.throwsAsync(call(server, { ...get, timeoutMs: NEVER_MS }), { instanceOf: AnswerLostError });
});

const silences: [what: string, listener: RequestListener][] = [
  ["never begins to answer", () => {}],
  ["never ends its answer", (_, response) => void response.writeHead(200).write("{")],
  ["never ends its refusal", (_, response) => void response.writeHead(409).write("{")],
];
for (const [what, listener] of silences) {
  test(`a call ends at its deadline when the server ${what}`, async (t) => {
    const server = await answering(t, listener);
    await t.throwsAsync(call(server, { ...get, timeoutMs: SOON_MS }), {
      instanceOf: AnswerLostError,
      message: "no answer within 3 s",
    });
  });
}

/** A server whose answer is what `source` gives. */
async function answeringWith(t: ExecutionContext, source: PassThrough) {
  const app = fastify();
  app.get("/", async (_, reply) => answerBytes(reply, source));
  await app.listen({ host: "127.0.0.1", port: 0 });
  t.teardown(() => app.close());
  return addressOf(t, app.server);
}

test("a stream must begin before its deadline, and may go on after it", async (t) => {
  const silent = await answering(t, () => {});
  await t.throwsAsync(stream(silent, { ...get, timeoutMs: SOON_MS }), { message: "no answer within 3 s" });
  const source = new PassThrough();
  const server = await answeringWith(t, source);
  const bytes = await stream(server, { ...get, timeoutMs: SOON_MS });
  t.is(source.readableLength, 0, "the answer begins before there is a byte of it");
  await new Promise((resolve) => setTimeout(resolve, SOON_MS + 500));
  source.end("late");
  t.is(await text(bytes), "late");
});

test("a client that leaves a stream ends what the server reads", async (t) => {
  const source = new PassThrough();
  const server = await answeringWith(t, source);
  const bytes = await stream(server, { ...get, timeoutMs: NEVER_MS });
  source.on("error", () => {});
  const closed = new Promise((resolve) => source.once("close", resolve));
  bytes.destroy();
  await closed;
  t.true(source.destroyed);
});

test("a stream that is aborted ends", async (t) => {
  const server = await answering(t, (_, response) => response.flushHeaders());
  const abort = new AbortController();
  const bytes = await stream(server, { ...get, timeoutMs: NEVER_MS, signal: abort.signal });
  abort.abort();
  await t.throwsAsync(text(bytes));
  await t.throwsAsync(stream(server, { ...get, timeoutMs: NEVER_MS, signal: abort.signal }));
});

test("an upload sends bytes as they come, and ends when the server refuses it", async (t) => {
  const received: string[] = [];
  const server = await answering(t, async (request, response) => {
    if (request.url === "/no") response.writeHead(404).end('{"error":"no client waits for this log"}');
    else {
      received.push(await text(request));
      response.writeHead(204).end();
    }
  });
  await upload(server, { path: "/", bytes: Readable.from(["one", "two"]), timeoutMs: NEVER_MS });
  t.deepEqual(received, ["onetwo"]);
  const endless = new PassThrough();
  endless.write("and so on");
  endless.on("error", () => {});
  const closed = new Promise((resolve) => endless.once("close", resolve));
  await t.throwsAsync(upload(server, { path: "/no", bytes: endless, timeoutMs: NEVER_MS }), {
    instanceOf: UserError,
    message: "no client waits for this log",
  });
  await closed;
  t.true(endless.destroyed);
});

for (const [what, status, body] of [
  ["a success that is no JSON", 200, "hello"],
  ["a refusal that is no JSON", 502, "<html>"],
  ["a refusal of another shape", 500, '{"message":"x"}'],
  ["a refusal that is null", 500, "null"],
] as const) {
  test(`something else answers: ${what}`, async (t) => {
    const server = await answering(t, (_, response) => response.writeHead(status).end(body));
    await t.throwsAsync(call(server, { ...get, timeoutMs: NEVER_MS }), { message: /is not overlayd/ });
  });
}

const errors: [thrown: Error, read: Error][] = [
  [
    new UserError(400, "'x' is not an address", { field: "address" }),
    new UserError(400, "'x' is not an address", { field: "address" }),
  ],
  [new UserError(507, "the disk is full"), new UserError(507, "the disk is full")],
  [new PlatformError("no TUN", "modprobe tun"), new UserError(503, "no TUN (modprobe tun)")],
  [new TypeError("x is null"), new Error("the agent failed, its log says more: x is null")],
  [
    Object.assign(new Error("Request body is too large"), { statusCode: 413 }),
    new UserError(413, "Request body is too large"),
  ],
];
for (const [thrown, read] of errors) {
  test(`over the wire and back: ${thrown.message}`, async (t) => {
    const { status, failure } = failureOf(thrown);
    t.deepEqual(errorOf(status, JSON.stringify(failure)), read);
    const app = fastify();
    answerFailures(app, silentLog);
    app.get("/", () => {
      throw thrown;
    });
    await app.listen({ host: "127.0.0.1", port: 0 });
    t.teardown(() => app.close());
    const server = addressOf(t, app.server);
    const error = await t.throwsAsync(call(server, { ...get, timeoutMs: NEVER_MS }), { any: true } as object);
    t.deepEqual(error, read);
  });
}

const Shape = z.strictObject({ name: z.string(), ports: z.array(z.strictObject({ target: z.number() })).default([]) });
const checks: [input: unknown, field: string | undefined, message: RegExp][] = [
  [undefined, undefined, /expected object/],
  [{}, "name", /^name: /],
  [{ name: "a", ports: [{ target: "x" }] }, "ports.0.target", /^ports\.0\.target: /],
  [{ name: "a", colour: 1 }, "colour", /^colour: no such field$/],
  [{ name: "a", ports: [{ target: 1, shade: 2 }] }, "ports.0.shade", /^ports\.0\.shade: no such field$/],
];
for (const [input, field, message] of checks) {
  test(`input that is wrong: ${JSON.stringify(input)}`, (t) => {
    const error = t.throws(() => check(Shape, input), { instanceOf: UserError, message });
    t.is(error?.code, 400);
    t.is(error?.field, field);
  });
}

test("input that is right is returned with its defaults", (t) => {
  t.deepEqual(check(Shape, { name: "a" }), { name: "a", ports: [] });
});
