// What managers answer users with a certificate, from any machine: what the local socket answers, but for what is asked of
// one node by a process on it.
import type { FastifyInstance } from "fastify";
import { UserError } from "../lib/errors.ts";
import type { Log } from "../lib/log.ts";
import type { Backend } from "./backend.ts";
import { addClusterRoutes } from "./routes.ts";

const OF_ONE_MANAGER = ["cluster/import", "cluster/export", "cluster/takeover", "cluster/recover"];
const OF_ONE_NODE = [
  "leave",
  "attach",
  "detach",
  "sandboxes",
  "sandboxes/*",
  "cluster/init",
  "cluster/join",
  ...OF_ONE_MANAGER,
];

export function addOperatorRoutes(app: FastifyInstance, backend: Backend, log: Log): void {
  addClusterRoutes(app, backend, log);
  for (const path of OF_ONE_NODE) {
    app.all(`/v1/${path}`, () => {
      throw new UserError(400, `this is asked of one node: run it there, without --context`);
    });
  }
}
