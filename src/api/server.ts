// The local HTTP API's server: a unix socket that only its owner may open.
import { chmodSync, lstatSync, mkdirSync, mkdtempSync, renameSync, rmSync, unlinkSync } from "node:fs";
import { createServer, type Server } from "node:http";
import { connect } from "node:net";
import { dirname, join } from "node:path";
import fastify from "fastify";
import { messageOf, PlatformError, UserError } from "../lib/errors.ts";
import type { Log } from "../lib/log.ts";
import type { Backend } from "./backend.ts";
import { addRoutes } from "./routes.ts";
import type { Failure } from "./schema.ts";

const OWNER_ONLY = 0o600;

export interface ApiServer {
  /** Ends open requests and removes the socket. */
  close(): Promise<void>;
}

/** Listens on `socketPath`; a dead agent's socket is replaced. Throws PlatformError when a live agent answers there. */
export async function serveApi(
  backend: Backend,
  { socketPath, log }: { socketPath: string; log: Log },
): Promise<ApiServer> {
  let server: Server | undefined;
  const app = fastify({
    exposeHeadRoutes: false,
    serverFactory: (handler) => {
      server = createServer(handler);
      return server;
    },
  });
  app.setNotFoundHandler((request, reply) =>
    reply.code(404).send({ error: `no such call: ${request.method} ${request.url}` } satisfies Failure),
  );
  app.setErrorHandler((error, request, reply) => {
    const { code, failure } = failureOf(error);
    if (code === 500) log.error("a call of the local API failed", { err: error, path: request.url });
    return reply.code(code).send(failure);
  });
  addRoutes(app, backend);
  await app.ready();
  await clearSocket(socketPath);
  await listenFor(server!, socketPath);
  return {
    async close() {
      rmSync(socketPath, { force: true });
      const closed = new Promise((resolve) => server!.close(resolve));
      server!.closeAllConnections();
      await closed;
      await app.close();
    },
  };
}

function failureOf(error: unknown): { code: number; failure: Failure } {
  const message = messageOf(error);
  if (error instanceof UserError) {
    return {
      code: error.code,
      failure: error.field === undefined ? { error: message } : { error: message, field: error.field },
    };
  }
  if (error instanceof PlatformError) return { code: 503, failure: { error: message } };
  // What fastify itself finds wrong with a request: JSON that is none, a body too large.
  const status = (error as { statusCode?: number }).statusCode;
  if (status !== undefined && status >= 400 && status < 500) return { code: status, failure: { error: message } };
  return { code: 500, failure: { error: `the agent failed, its log says more: ${message}` } };
}

/** Makes way for a new socket. */
async function clearSocket(path: string): Promise<void> {
  mkdirSync(dirname(path), { recursive: true, mode: 0o755 });
  const found = lstatSync(path, { throwIfNoEntry: false });
  if (found === undefined) return;
  if (!found.isSocket()) {
    throw new PlatformError(`'${path}' is in the way of the API's socket and is not a socket`, `ls -l ${path}`);
  }
  if (await answers(path)) {
    throw new PlatformError(`another agent answers on ${path}`, `overlayctl --socket ${path} node ls`);
  }
  unlinkSync(path);
}

function answers(path: string): Promise<boolean> {
  return new Promise((resolve, reject) => {
    const socket = connect(path);
    socket.once("connect", () => {
      socket.destroy();
      resolve(true);
    });
    socket.once("error", (error: NodeJS.ErrnoException) => {
      if (error.code === "ECONNREFUSED" || error.code === "ENOENT") resolve(false);
      else
        reject(new PlatformError(`cannot tell who owns ${path}: ${error.message}`, `ls -l ${path}`, { cause: error }));
    });
  });
}

/** Binds the socket in a directory that its owner alone can enter, then moves it: at no moment can another user connect. */
async function listenFor(server: Server, path: string): Promise<void> {
  const directory = mkdtempSync(join(dirname(path), ".new-"));
  try {
    const socket = join(directory, "s");
    await listen(server, socket);
    chmodSync(socket, OWNER_ONLY);
    renameSync(socket, path);
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

function listen(server: Server, path: string): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once("error", (cause) =>
      reject(new PlatformError(`cannot listen on ${path}: ${cause.message}`, `ls -ld ${dirname(path)}`, { cause })),
    );
    server.once("listening", resolve);
    server.listen(path);
  });
}
