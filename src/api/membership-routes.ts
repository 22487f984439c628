// The routes about who is in the cluster: tokens, roles, users, the certificate authority.
import type { FastifyInstance, FastifyRequest } from "fastify";
import type { CommandInput } from "../cluster/commands.ts";
import { find } from "../cluster/lookup.ts";
import { Role } from "../cluster/trust-rows.ts";
import { check } from "../lib/check.ts";
import { UserError } from "../lib/errors.ts";
import type { Backend } from "./backend.ts";
import { byName } from "./by-name.ts";
import { AddUser, Join, RotateAuthority, SetRole } from "./membership-schema.ts";
import type { Written } from "./schema.ts";

type Write = (type: CommandInput["type"], fields: object, name: unknown) => Promise<Written>;

export function addMembershipRoutes(app: FastifyInstance, backend: Backend, write: Write): void {
  app.get("/v1/join-tokens/:name", (request) => backend.joinToken(roleOf(request), { rotate: false }));
  app.post("/v1/join-tokens/:name/rotate", (request) => backend.joinToken(roleOf(request), { rotate: true }));

  app.post("/v1/nodes/:name/role", (request) => {
    const { role } = check(SetRole, request.body ?? {});
    const asked = (request.params as { name: string }).name;
    const name = find<"nodes">(backend.state().nodes, asked)?.name ?? asked;
    return write(role === "manager" ? "node.promote" : "node.demote", { name }, name);
  });

  app.post("/v1/authority/rotate", (request) => backend.rotateAuthority(check(RotateAuthority, request.body ?? {})));

  app.get("/v1/users", async () => byName(await backend.users()));
  app.post("/v1/users", (request) => backend.addUser(check(AddUser, request.body ?? {})));
  app.delete("/v1/users/:name", (request) => {
    const { name } = request.params as { name: string };
    return write("user.remove", { name }, name);
  });
}

/** What makes a node a member of a cluster, on a node that is one. */
export function addMemberRoutes(app: FastifyInstance, backend: Backend): void {
  app.post("/v1/cluster/import", () => {
    throw new UserError(
      409,
      `this node is a member of cluster ${backend.clusterId} already: 'overlayctl leave --force' makes it forget that one first`,
    );
  });
  app.post("/v1/cluster/init", () => {
    throw new UserError(
      409,
      `there is a cluster here already: this node is a member of ${backend.clusterId}; 'overlayctl leave' makes it forget that one first`,
    );
  });
  app.post("/v1/cluster/join", (request) => backend.rejoin(check(Join, request.body ?? {})));
}

function roleOf(request: FastifyRequest): Role {
  return check(Role, (request.params as { name: string }).name);
}
