// Who is at the other end of a connection, by its certificate.
import type { TLSSocket } from "node:tls";
import { UserError } from "../lib/errors.ts";
import { peerOf } from "../trust/tls.ts";
import type { Peer } from "./authority.ts";

/** How a listener of IPv6 writes the address of an IPv4 connection. */
const MAPPED = /^::ffff:(?=\d+\.)/;

// Keyed by connection: a certificate is read once.
const peers = new WeakMap<TLSSocket, Peer>();

/** Throws UserError 401 when the connection showed no certificate, and TrustError when it is not of this cluster. */
export function identify(socket: TLSSocket): Peer {
  const known = peers.get(socket);
  if (known !== undefined) return known;
  const subject = peerOf(socket);
  if (subject === undefined) {
    throw new UserError(
      401,
      "a certificate of this cluster is needed: a node gets one with 'overlayctl join', a person with 'overlayctl user add'",
    );
  }
  const peer = { subject, from: addressOf(socket), certificate: socket.getPeerX509Certificate()! };
  peers.set(socket, peer);
  return peer;
}

/** Where the connection comes from. */
export function addressOf({ remoteAddress = "" }: Pick<TLSSocket, "remoteAddress">): string {
  return remoteAddress.replace(MAPPED, "");
}
