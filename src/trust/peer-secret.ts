// What two ends of one TLS 1.3 connection alone have in common, RFC 8446 section 7.5, and the keys that are derived from it. Each
// connection has a new one, for no session is resumed.
import { hkdfSync } from "node:crypto";
import type { TLSSocket } from "node:tls";

const LABEL = "EXPORTER-overlayd-esp-1";
const SECRET_BYTES = 32;
/** An AES-256 key and its salt, RFC 4106 section 8.1. */
const KEY_BYTES = 36;

/** The secret of the connection between the nodes with these ids. It is the same at both ends. */
export function peerSecret(socket: TLSSocket, nodes: readonly [string, string]): Buffer {
  return socket.exportKeyingMaterial(SECRET_BYTES, LABEL, Buffer.from([...nodes].sort().join(" ")));
}

/** The key of the packets that the node with id `sender` sends under `spi`, HKDF-SHA256 of RFC 5869 without a salt. */
export function associationKey(secret: Buffer, sender: string, spi: number): Uint8Array {
  return new Uint8Array(hkdfSync("sha256", secret, "", `${sender} ${spi}`, KEY_BYTES));
}
