// The routes on which a manager answers other managers. See manager-protocol.ts.
import type { FastifyInstance, FastifyRequest } from "fastify";
import { check } from "../lib/check.ts";
import { MemberStart } from "./etcd-command.ts";
import type { MemberAgent } from "./etcd-members.ts";
import { GiveLead, type ManagerReport, MemberTrust } from "./manager-protocol.ts";
import type { CopyAnswer, CopyRequest } from "./state-copy.ts";

/** This node's manager, as others may ask it. */
export interface ManagerFace {
  report(): Promise<ManagerReport>;
  /** Throws MisdirectedError when it does not lead. */
  copyFor(request: CopyRequest): Promise<CopyAnswer>;
  /** Resolves when its etcd has these certificates. */
  takeTrust(wanted: MemberTrust): Promise<void>;
  readonly member: Omit<MemberAgent, "condition">;
}

/** `requireManager` throws UserError 401 or 403 when the request is not another manager's. */
export function addManagerRoutes(
  server: FastifyInstance,
  face: ManagerFace,
  requireManager: (request: FastifyRequest) => void,
): void {
  server.register(async (routes) => {
    routes.addHook("onRequest", async (request) => requireManager(request));
    routes.get("/v1/managers/report", () => face.report());
    routes.post("/v1/managers/copy", (request) => face.copyFor(request.body as CopyRequest));
    routes.post("/v1/managers/member/check", () => face.member.check());
    routes.post("/v1/managers/member/begin", async (request, reply) => {
      await face.member.begin(check(MemberStart, request.body));
      return reply.code(204).send();
    });
    routes.post("/v1/managers/member/trust", async (request, reply) => {
      await face.takeTrust(check(MemberTrust, request.body));
      return reply.code(204).send();
    });
    routes.post("/v1/managers/member/lead", async (request, reply) => {
      await face.member.giveLead(check(GiveLead, request.body).member);
      return reply.code(204).send();
    });
    routes.post("/v1/managers/member/remove", async (_, reply) => {
      await face.member.remove();
      return reply.code(204).send();
    });
  });
}
