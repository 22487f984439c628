// The routes of an agent whose node is in no cluster: it can become a member of one, and nothing else.
import type { FastifyInstance, FastifyReply } from "fastify";
import { check } from "../lib/check.ts";
import { UserError } from "../lib/errors.ts";
import { VERSION } from "../lib/version.ts";
import { ImportRequest } from "./cluster-schema.ts";
import { Init, Join } from "./membership-schema.ts";
import type { StatusView } from "./schema.ts";
import type { WaitingBackend } from "./waiting-backend.ts";

const IN_NO_CLUSTER = "this node is in no cluster: run 'overlayctl init' or 'overlayctl join ADDRESS --token T'";

export function addWaitingRoutes(app: FastifyInstance, backend: WaitingBackend): void {
  const inNoCluster = () => {
    const { problem } = backend;
    return problem === null
      ? IN_NO_CLUSTER
      : `${IN_NO_CLUSTER}; the join that its configuration asks for fails: ${problem}`;
  };
  /** The agent goes on once the answer is out, also where the client did not wait for it. */
  const answeredOnce = async <T>(reply: FastifyReply, made: Promise<T>): Promise<T> => {
    const view = await made;
    if (reply.raw.destroyed) backend.answered();
    else reply.raw.once("close", () => backend.answered());
    return view;
  };
  app.get("/v1/status", (): StatusView => {
    const nothing = { cluster: null, revision: 0, leader: null, connected: false };
    return {
      version: VERSION,
      node: backend.nodeName,
      phase: "waiting",
      role: null,
      ...nothing,
      problem: inNoCluster(),
      managers: [],
    };
  });
  app.post("/v1/cluster/init", (request, reply) => {
    return answeredOnce(reply, backend.init(check(Init, request.body ?? {})));
  });
  app.post("/v1/cluster/import", (request, reply) => {
    return answeredOnce(reply, backend.importCluster(check(ImportRequest, request.body ?? {})));
  });
  app.post("/v1/cluster/join", (request, reply) => {
    return answeredOnce(reply, backend.join(check(Join, request.body ?? {})));
  });
  app.post("/v1/leave", () => {
    throw new UserError(409, IN_NO_CLUSTER);
  });
  app.all("/*", () => {
    throw new UserError(503, inNoCluster());
  });
}
