// TLS between any two nodes: one dials, the other answers, and both show a node's certificate of the cluster's CA.
import { connect, createSecureContext, type SecureContext, type TLSSocket } from "node:tls";
import type { Subject } from "./certificates.ts";
import type { Credentials } from "./credentials.ts";
import { clientTls, contextOf, peerOf } from "./tls.ts";
import { TrustError } from "./trust-error.ts";

interface PeerAddress {
  host: string;
  port: number;
  /** This node's address, by which the peer knows it. */
  localAddress: string;
}

/** Dials other nodes. What a connection is made with is parsed once, and again after a renewal. */
export class PeerDialer {
  readonly #credentials: Credentials;
  readonly #stopFollowing: () => void;
  #context: SecureContext | undefined;

  constructor(credentials: Credentials) {
    this.#credentials = credentials;
    this.#stopFollowing = credentials.onChange(() => {
      this.#context = undefined;
    });
  }

  /** Begins a connection to the node with this id. It ends with a TrustError when another node answers. */
  dial(at: PeerAddress, nodeId: string): TLSSocket {
    const refusal = ({ id, name }: Subject): string | undefined =>
      id === nodeId ? undefined : `node '${name}' answers there, and not the node that has the address`;
    this.#context ??= createSecureContext(contextOf(this.#credentials));
    return connect({ ...at, ...clientTls(this.#credentials, { refusal }), secureContext: this.#context });
  }

  close(): void {
    this.#stopFollowing();
  }
}

/** The node that has dialled. Throws TrustError, in words for the peer, when it is no node of the cluster. */
export function diallerOf(socket: TLSSocket, clusterId: string): Subject {
  const peer = peerOf(socket);
  if (peer === undefined) throw new TrustError("foreign", "a node's certificate of this cluster is needed");
  if (peer.kind !== "node") throw new TrustError("role", `'${peer.name}' is a user, and no node`);
  if (peer.clusterId !== clusterId) throw new TrustError("foreign", `node '${peer.name}' is of another cluster`);
  return peer;
}
