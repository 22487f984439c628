// The local HTTP API's server: a unix socket that its owner and the group `overlayd` may open.
import { chmodSync, chownSync, lstatSync, mkdirSync, mkdtempSync, renameSync, rmSync, unlinkSync } from "node:fs";
import { createServer, type Server } from "node:http";
import { connect } from "node:net";
import { dirname, join } from "node:path";
import fastify, { type FastifyInstance } from "fastify";
import { PlatformError } from "../lib/errors.ts";
import { answerFailures } from "../lib/http-server.ts";
import type { Log } from "../lib/log.ts";
import { onBehalfOf } from "../lib/on-behalf.ts";
import type { Backend } from "./backend.ts";
import { addRoutes } from "./routes.ts";
import { ownerOfSocket, type SocketOwner } from "./socket-owner.ts";
import type { WaitingBackend } from "./waiting-backend.ts";
import { addWaitingRoutes } from "./waiting-routes.ts";

interface ServeOptions {
  socketPath: string;
  log: Log;
  /** Left out: the machine's, see socket-owner.ts. */
  owner?: SocketOwner;
}

interface ApiServer {
  /** Ends open requests and removes the socket. */
  close(): Promise<void>;
}

/** Listens on `socketPath`; a dead agent's socket is replaced. Throws PlatformError when a live agent answers there. */
export function serveApi(backend: Backend, options: ServeOptions): Promise<ApiServer> {
  return serve((app) => addRoutes(app, backend, options.log), options);
}

/** As serveApi, for an agent whose node is in no cluster. */
export function serveWaiting(backend: WaitingBackend, options: ServeOptions): Promise<ApiServer> {
  return serve((app) => addWaitingRoutes(app, backend), options);
}

async function serve(
  addTo: (app: FastifyInstance) => void,
  { socketPath, log, owner = ownerOfSocket() }: ServeOptions,
): Promise<ApiServer> {
  let server: Server | undefined;
  const app = fastify({
    exposeHeadRoutes: false,
    serverFactory: (handler) => {
      server = createServer(handler);
      return server;
    },
  });
  answerFailures(app, log);
  app.addHook("preHandler", (_request, _reply, done) => onBehalfOf("the local socket", done));
  addTo(app);
  await app.ready();
  await clearSocket(socketPath);
  await listenFor(server!, socketPath, owner);
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

/** Removes a dead agent's socket. Throws PlatformError for anything else that is in the way. */
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

/** Binds the socket in a directory that its owner alone can enter, then moves it: at no moment can a stranger connect. */
async function listenFor(server: Server, path: string, { group, mode }: SocketOwner): Promise<void> {
  const directory = mkdtempSync(join(dirname(path), ".new-"));
  try {
    const socket = join(directory, "s");
    await listen(server, socket);
    if (group !== undefined) chownSync(socket, process.geteuid!(), group);
    chmodSync(socket, mode);
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
