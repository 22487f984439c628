// The routes about the managers and their store.
import type { FastifyInstance } from "fastify";
import { check } from "../lib/check.ts";
import type { ClusterStatusView, ExportView, MoveView, RecoverView, TakeoverView } from "./cluster-schema.ts";
import { ExportRequest, ForceRequest } from "./cluster-schema.ts";

/** What a manager does for an operator. Every call throws UserError. */
export interface ClusterBackend {
  status(): Promise<ClusterStatusView>;
  export(path: string): Promise<ExportView>;
  /** Moves the state from the leader's file to etcd, whichever manager is asked. */
  move(force: boolean): Promise<MoveView>;
  takeOver(force: boolean): Promise<TakeoverView>;
  recover(force: boolean): Promise<RecoverView>;
}

/** What any manager answers. `cluster` throws UserError 403 on a worker, here and below. */
export function addManagersRoutes(app: FastifyInstance, cluster: () => ClusterBackend): void {
  app.get("/v1/cluster/status", () => cluster().status());
  app.post("/v1/cluster/move", (request) => cluster().move(check(ForceRequest, request.body ?? {}).force));
}

/** What is asked of one manager on its machine. */
export function addStoreRoutes(app: FastifyInstance, cluster: () => ClusterBackend): void {
  app.post("/v1/cluster/export", (request) => cluster().export(check(ExportRequest, request.body ?? {}).path));
  app.post("/v1/cluster/takeover", (request) => cluster().takeOver(check(ForceRequest, request.body ?? {}).force));
  app.post("/v1/cluster/recover", (request) => cluster().recover(check(ForceRequest, request.body ?? {}).force));
}
