// TLS 1.3 between nodes, managers and users. Each end shows a certificate of the cluster's CA. An end is known by the URI in
// it, never by its host name or address. No session is resumed: each connection shows and checks the certificates anew.
import { constants, X509Certificate } from "node:crypto";
import { Agent, type AgentOptions, type Server } from "node:https";
import {
  type ConnectionOptions,
  createSecureContext,
  type SecureContextOptions,
  type TLSSocket,
  type TlsOptions,
} from "node:tls";
import { type NodeRole, type Subject, subjectOf, validityOf } from "./certificates.ts";
import type { Credentials } from "./credentials.ts";
import { clientRefusal } from "./refusals.ts";
import { TrustError } from "./trust-error.ts";

/** What a connection is made with, at either end. */
export function contextOf({ certificate, key, bundle, bridges }: Credentials): SecureContextOptions {
  return {
    // A joining node finds the CA of its token among these; other clients need the bridges at most.
    cert: [certificate, ...bridges, ...bundle].join("\n"),
    key,
    ca: [...bundle],
    minVersion: "TLSv1.3",
    secureOptions: constants.SSL_OP_NO_TICKET,
  };
}

/**
 * Options of a server. A client without a certificate, or with a wrong one, gets as far as the request, so that the answer
 * can say in words what is wrong: `peerOf` throws them, and must be called for each connection.
 */
export function serverTls(credentials: Credentials): TlsOptions {
  return { ...contextOf(credentials), requestCert: true, rejectUnauthorized: false };
}

/** New connections to the server are made with what the credentials have by then. Returns what ends that. */
export function followCredentials(server: Pick<Server, "setSecureContext">, credentials: Credentials): () => void {
  return credentials.onChange(() => server.setSecureContext(contextOf(credentials)));
}

/** Whom a client expects at the other end: a node of its own cluster. */
interface ExpectedPeer {
  /** The role that the certificate must say. */
  readonly role?: NodeRole;
  /** Why the peer is refused although its certificate, which ends at `expires`, is good: its row is gone, or says another role. */
  readonly refusal?: (peer: Subject, expires: number) => string | undefined;
}

/** Options of a client. */
export function clientTls(credentials: Credentials, expected: ExpectedPeer = {}): ConnectionOptions {
  const { clusterId } = credentials.subject;
  return {
    ...contextOf(credentials),
    rejectUnauthorized: true,
    checkServerIdentity: (_host, { raw }) => whyNot(new X509Certificate(raw), clusterId, expected),
  };
}

function whyNot(certificate: X509Certificate, clusterId: string, expected: ExpectedPeer): Error | undefined {
  try {
    const peer = subjectOf(certificate);
    if (peer.clusterId !== clusterId) throw new TrustError("foreign", `it is of another cluster (${peer.clusterId})`);
    requireNode(peer, expected.role);
    const refusal = expected.refusal?.(peer, validityOf(certificate).expires);
    return refusal === undefined ? undefined : new TrustError("revoked", refusal);
  } catch (error) {
    return error as Error;
  }
}

/** For a node that knows no cluster yet: why the server is no manager; undefined when it is. */
export function managerOfAnyCluster(certificate: X509Certificate): Error | undefined {
  try {
    requireNode(subjectOf(certificate), "manager");
    return undefined;
  } catch (error) {
    return error as Error;
  }
}

function requireNode(peer: Subject, role: NodeRole | undefined): void {
  if (peer.kind !== "node") throw new TrustError("role", `it is the user '${peer.name}', and no node`);
  if (role !== undefined && peer.role !== role) {
    throw new TrustError("role", `it is node '${peer.name}', a ${peer.role}, and no ${role}`);
  }
}

// Kept as long as the connections: a connection carries many requests, and always has the same certificate.
const peers = new WeakMap<TLSSocket, Subject>();

/**
 * The other end of a connection to a server, by its certificate; undefined when it showed none. Throws TrustError, in words
 * for the client, when TLS does not trust the certificate.
 */
export function peerOf(socket: TLSSocket): Subject | undefined {
  const known = peers.get(socket);
  if (known !== undefined) return known;
  const certificate = socket.getPeerX509Certificate();
  if (certificate === undefined) return undefined;
  if (socket.authorized) {
    const peer = subjectOf(certificate);
    peers.set(socket, peer);
    return peer;
  }
  const own = socket.getX509Certificate();
  throw clientRefusal(String(socket.authorizationError), certificate, own && subjectOf(own).clusterId);
}

/** They are kept for the next request, but for less time than a manager does: a handshake costs far more than a request. */
const KEPT: AgentOptions = { keepAlive: true, maxFreeSockets: 2, timeout: 30_000 };

/** The connections of a client for requests: `agent` is another one after each change of the credentials. */
export class ClientConnections {
  readonly #credentials: Credentials;
  readonly #options: AgentOptions;
  readonly #stopFollowing: () => void;
  #agent: Agent;

  constructor(credentials: Credentials, expected: ExpectedPeer) {
    this.#credentials = credentials;
    this.#options = { ...clientTls(credentials, expected), ...KEPT, maxCachedSessions: 0 };
    this.#agent = this.#create();
    this.#stopFollowing = credentials.onChange(() => {
      const before = this.#agent;
      this.#agent = this.#create();
      closeUnused(before);
    });
  }

  get agent(): Agent {
    return this.#agent;
  }

  close(): void {
    this.#stopFollowing();
    this.#agent.destroy();
  }

  #create(): Agent {
    const context = contextOf(this.#credentials);
    return new Agent({ ...this.#options, ...context, secureContext: createSecureContext(context) });
  }
}

/** Closes the connections that carry no request. The others close when theirs is answered. */
function closeUnused(agent: Agent): void {
  agent.maxFreeSockets = 0;
  for (const socket of Object.values(agent.freeSockets).flat()) socket?.destroy();
}
