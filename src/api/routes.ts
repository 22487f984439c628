// The routes of the local API: reads answer from the snapshot, writes go to the leader through the backend.
import type { FastifyInstance, FastifyRequest } from "fastify";
import { z } from "zod";
import type { CommandInput } from "../cluster/commands.ts";
import { find, type NamedKind } from "../cluster/lookup.ts";
import { managersOf } from "../cluster/managers.ts";
import { Id } from "../lib/bounds.ts";
import { check } from "../lib/check.ts";
import { answerBytes, answerRows } from "../lib/http-server.ts";
import type { Log } from "../lib/log.ts";
import { VERSION } from "../lib/version.ts";
import type { Backend } from "./backend.ts";
import { byName } from "./by-name.ts";
import { addManagersRoutes, addStoreRoutes } from "./cluster-routes.ts";
import { endpointViews } from "./endpoint-views.ts";
import { addMemberRoutes, addMembershipRoutes } from "./membership-routes.ts";
import { nextProgress } from "./progress.ts";
import {
  Attach,
  Detach,
  Express,
  FlowFilter,
  Leave,
  LogFilter,
  OpenSandbox,
  ProgressQuery,
  RemoveNode,
  type StatusView,
  WaitApplied,
  type Written,
} from "./schema.ts";
import { STATE_HEADER } from "./state-source.ts";
import { get, networkView, nodeView, serviceViews, tasksOf, taskView } from "./views.ts";

/** What a node's own socket answers: all that may be asked of the cluster, and of the node itself. */
export function addRoutes(app: FastifyInstance, backend: Backend, log: Log): void {
  addClusterRoutes(app, backend, log);
  addMemberRoutes(app, backend);
  addStoreRoutes(app, () => backend.cluster());
  addNodeRoutes(app, backend);
}

/** What can be asked from any machine. */
export function addClusterRoutes(app: FastifyInstance, backend: Backend, log: Log): void {
  /** Has the leader carry out a command, whose fields it checks. The answer calls the thing `name`. */
  const write = async (type: CommandInput["type"], fields: object, name: unknown): Promise<Written> => {
    const { id, revision } = await backend.execute({ ...fields, type } as CommandInput);
    return { id, name: String(name), revision };
  };
  /** The name of what a path names, also by id. A word that names nothing stays as it is, and the leader refuses it. */
  const meant = (kind: NamedKind, request: FastifyRequest): string =>
    find<NamedKind>(backend.state()[kind], named(request))?.name ?? named(request);

  app.addHook("onRequest", (request, reply, done) => {
    if (request.method === "GET") void reply.header(STATE_HEADER, backend.stateSource); // what is read later is no older
    done();
  });
  app.get("/v1/status", (): StatusView => {
    const { name, connected, problem } = backend.leader();
    const state = backend.state();
    const { revision, cluster } = state;
    const own = {
      version: VERSION,
      node: backend.nodeName,
      role: backend.role,
      cluster: cluster?.id ?? null,
      revision,
      managers: managersOf(state),
    };
    return { ...own, phase: "running", leader: name, connected, problem };
  });
  addMembershipRoutes(app, backend, write);
  addManagersRoutes(app, () => backend.cluster());

  app.get("/v1/networks", async (_, reply) => {
    const state = backend.state();
    answerRows(reply, log, byName([...state.networks.values()]), (network) => networkView(state, network));
  });
  app.post("/v1/networks", (request) => {
    const body = bodyOf(request);
    return write("network.create", body, body.name);
  });
  app.get("/v1/networks/:name", (request) => {
    const state = backend.state();
    return networkView(state, get(state, "networks", named(request)));
  });
  app.delete("/v1/networks/:name", (request) => {
    const name = meant("networks", request);
    return write("network.remove", { name }, name);
  });

  app.get("/v1/services", async (_, reply) => {
    const state = backend.state();
    answerRows(reply, log, byName([...state.services.values()]), serviceViews(state));
  });
  app.post("/v1/services", (request) => {
    const body = bodyOf(request);
    return write("service.create", body, body.name);
  });
  app.get("/v1/services/:name", (request) => {
    const state = backend.state();
    return serviceViews(state)(get(state, "services", named(request)));
  });
  app.delete("/v1/services/:name", (request) => {
    const name = meant("services", request);
    return write("service.remove", { name }, name);
  });
  app.post("/v1/services/:name/scale", (request) => {
    const name = meant("services", request);
    return write("service.scale", { ...bodyOf(request), name }, name);
  });
  app.get("/v1/services/:name/tasks", async (request, reply) => {
    const state = backend.state();
    answerRows(reply, log, tasksOf(state, get(state, "services", named(request))), (task) => taskView(state, task));
  });
  app.get("/v1/tasks/:name/log", async (request, reply) => {
    answerBytes(reply, await backend.taskLog(check(Id, named(request)), check(LogFilter, request.query)));
  });
  app.get("/v1/services/:name/progress", (request) =>
    nextProgress(backend, named(request), check(ProgressQuery, request.query)),
  );

  app.get("/v1/nodes", async (_, reply) => {
    const state = backend.state();
    const [self, leader] = [backend.nodeName, leaderOf(backend)];
    answerRows(reply, log, byName([...state.nodes.values()]), (node) => nodeView(state, node, self, leader));
  });
  app.get("/v1/nodes/:name", (request) => {
    const state = backend.state();
    return nodeView(state, get(state, "nodes", named(request)), backend.nodeName, leaderOf(backend));
  });
  app.delete("/v1/nodes/:name", (request) => {
    const name = meant("nodes", request);
    return write("node.remove", { name, ...check(RemoveNode, request.query) }, name);
  });
  app.post("/v1/nodes/:name/availability", (request) => {
    const name = meant("nodes", request);
    return write("node.availability", { ...bodyOf(request), name }, name);
  });

  app.post("/v1/applied", async (request) => {
    const { revision, timeoutMs } = check(WaitApplied, request.body ?? {});
    await backend.waitApplied(revision, timeoutMs);
    return { revision };
  });

  app.get("/v1/peers", async () => byName(await backend.peers()));
  app.get("/v1/stats", () => backend.stats());
  app.get("/v1/flows", (request) => backend.flows(check(FlowFilter, request.query)));

  app.post("/v1/endpoints", (request) => {
    const body = bodyOf(request);
    return write("external.add", body, body.name ?? body.address);
  });
  app.delete("/v1/endpoints/:name", (request) => {
    const word = named(request);
    return write("external.remove", { name: word }, word);
  });
  app.get("/v1/endpoints", async (_, reply) => {
    answerRows(reply, log, [...endpointViews(backend.state()), ...backend.refused()], (view) => view);
  });
}

/** What is asked of this node, by a process on it. */
function addNodeRoutes(app: FastifyInstance, backend: Backend): void {
  app.post("/v1/leave", (request) => backend.leave(check(Leave, request.body ?? {}).force));
  app.post("/v1/express", (request) => {
    const body = check(Express, request.body ?? {});
    backend.turnLane(body.on);
    return body;
  });
  app.get("/v1/debug/keys/:name", (request) => backend.exportKeys(named(request), descriptorOf(request)));
  app.post("/v1/attach", (request) => backend.attach(check(Attach, request.body ?? {})));
  app.post("/v1/detach", async (request) => {
    await backend.detach(check(Detach, request.body ?? {}));
    return {};
  });

  app.post("/v1/sandboxes", (request) => backend.openSandbox(check(OpenSandbox, request.body ?? {})));
  app.delete("/v1/sandboxes/:name", async (request) => {
    await backend.closeSandbox(check(Id, named(request)));
    return {};
  });
}

/** Node.js has no other way to the descriptor of a connection; -1: it is closed. */
function descriptorOf(request: FastifyRequest): number {
  const { _handle: handle } = request.raw.socket as unknown as { _handle: { fd: number } | null };
  return handle?.fd ?? -1;
}

const Body = z.looseObject({});

/** The fields of a body that the leader checks. */
function bodyOf(request: FastifyRequest): Record<string, unknown> {
  return check(Body, request.body ?? {});
}

function named(request: FastifyRequest): string {
  return (request.params as { name: string }).name;
}

function leaderOf(backend: Backend): string | null {
  const { name, connected } = backend.leader();
  return connected ? name : null;
}
