// A manager's server on loopback with real certificates, and who calls it.
import { Agent, request as httpsRequest } from "node:https";
import { text } from "node:stream/consumers";
import type { FastifyInstance, FastifyRequest } from "fastify";
import type { Node } from "../../src/cluster/schema.ts";
import { Joining } from "../../src/leader/joining.ts";
import type { Leader } from "../../src/leader/leader.ts";
import { PeerCalls } from "../../src/leader/peer-calls.ts";
import { type ManagerServer, serveManager } from "../../src/leader/server.ts";
import type { Clock } from "../../src/lib/clock.ts";
import { type Log, silentLog } from "../../src/lib/log.ts";
import { type Transport, transportOver } from "../../src/session/transport.ts";
import { type Authority, createAuthority, createRequest, issue } from "../../src/trust/authority.ts";
import { createKey, type Subject } from "../../src/trust/certificates.ts";
import { Credentials } from "../../src/trust/credentials.ts";
import type { ManagerKeys } from "../../src/trust/identity-files.ts";
import { KeyRing } from "../../src/trust/key-ring.ts";
import { ClientConnections, clientTls } from "../../src/trust/tls.ts";

export interface SecureManagerOptions {
  clock: Clock;
  log?: Log;
  port?: number;
  timeoutMs?: number;
  /** Left out: those of a new authority, which the state does not know. */
  keys?: ManagerKeys;
  /** Left out: what it leads. */
  calls?: () => PeerCalls;
  operator?: (server: FastifyInstance) => void;
  managers?: (server: FastifyInstance, require: (request: FastifyRequest) => void) => void;
}

/** What a server answers. */
export interface Answer {
  status: number;
  body: { error?: string; field?: string } & Record<string, unknown>;
}

/** Keys of a cluster's managers. */
export async function managerKeys(clusterId: string): Promise<ManagerKeys> {
  const now = Date.now();
  const nodes = await createAuthority({ clusterId, purpose: "nodes", now });
  const store = await createAuthority({ clusterId, purpose: "store", now });
  return { nodes, store, sealKey: "k".repeat(43) };
}

/** A certificate that `authority` signs. It is valid by this machine's clock, unless `now` says another time. */
export async function certified(authority: Authority, subject: Subject, now = Date.now()): Promise<Credentials> {
  const key = createKey();
  const request = await createRequest(key, subject.name);
  const certificate = await issue(authority, { request, subject, now });
  return new Credentials({ certificate, key, bundle: [authority.certificate] });
}

export class SecureManager {
  readonly leader: Leader;
  readonly keys: ManagerKeys;
  readonly #server: ManagerServer;
  readonly #connections: ClientConnections[] = [];

  private constructor(leader: Leader, keys: ManagerKeys, server: ManagerServer) {
    this.leader = leader;
    this.keys = keys;
    this.#server = server;
  }

  /** Serves the leader. Its own node is the first of the cluster. */
  static async start(leader: Leader, options: SecureManagerOptions): Promise<SecureManager> {
    const { clock, log = silentLog, port = 0, timeoutMs, operator, managers } = options;
    const clusterId = leader.state.cluster!.id;
    const keys = options.keys ?? (await managerKeys(clusterId));
    const ring = new KeyRing({ keys, write: async () => {} });
    const calls = new PeerCalls({ leader, clock, log });
    const [own] = [...leader.state.nodes.values()];
    const server = await serveManager({
      ...{ host: "127.0.0.1", port, clock, log },
      credentials: await certified(keys.nodes, {
        kind: "node",
        clusterId,
        id: own!.id,
        name: own!.name,
        role: "manager",
      }),
      state: () => leader.state,
      calls: options.calls ?? (() => calls),
      joining: new Joining({ leader: () => leader, ring, clock, log }),
      ...(timeoutMs === undefined ? {} : { timeoutMs }),
      ...(operator === undefined ? {} : { operator }),
      ...(managers === undefined ? {} : { managers }),
    });
    return new SecureManager(leader, keys, server);
  }

  get port(): number {
    return this.#server.port;
  }

  get address(): string {
    return `127.0.0.1:${this.port}`;
  }

  /** A certificate of the node. */
  credentialsOf({ id, name, role }: Pick<Node, "id" | "name" | "role">): Promise<Credentials> {
    const clusterId = this.leader.state.cluster!.id;
    return certified(this.keys.nodes, { kind: "node", clusterId, id, name, role });
  }

  /** A certificate of the node with that name. */
  credentialsNamed(name: string): Promise<Credentials> {
    return this.credentialsOf([...this.leader.state.nodes.values()].find((node) => node.name === name)!);
  }

  /** The way of who has the credentials to managers. */
  transport(credentials: Credentials): Transport {
    const connections = new ClientConnections(credentials, { role: "manager" });
    this.#connections.push(connections);
    return transportOver(connections);
  }

  /** What the server answers to a request, on a connection of its own. */
  async ask(credentials: Credentials | undefined, method: string, path: string, body?: unknown): Promise<Answer> {
    const tls = credentials === undefined ? {} : clientTls(credentials);
    // A caller of another cluster trusts the server as little as that trusts the caller.
    const agent = new Agent({ ...tls, rejectUnauthorized: false, maxCachedSessions: 0 });
    const json = body === undefined ? undefined : typeof body === "string" ? body : JSON.stringify(body);
    const headers = json === undefined ? {} : { "content-type": "application/json" };
    try {
      return await new Promise((resolve, reject) => {
        const request = httpsRequest(
          { host: "127.0.0.1", port: this.port, method, path, headers, agent },
          (response) => {
            text(response).then((answer) => {
              resolve({ status: response.statusCode!, body: answer === "" ? {} : JSON.parse(answer) });
            }, reject);
          },
        );
        request.once("error", reject).end(json);
      });
    } finally {
      agent.destroy();
    }
  }

  async close(): Promise<void> {
    for (const connections of this.#connections) connections.close();
    await this.#server.close();
  }
}
