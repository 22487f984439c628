// Which CA signed the certificates that nodes show while the CA is changed. The answer to a renewal may be lost: a node has
// what it shows, and only that may end the change (authority-rotation.ts).
import { trustOf } from "../cluster/lookup.ts";
import { messageOf } from "../lib/errors.ts";
import type { Log } from "../lib/log.ts";
import { signerOf, validityOf } from "../trust/certificates.ts";
import type { Peer } from "./authority.ts";
import type { Leader } from "./leader.ts";

export class ShownCertificates {
  readonly #leader: Pick<Leader, "state" | "renewed">;
  readonly #log: Log;
  /** Connections that were looked at: a peer is one connection's. */
  readonly #seen = new WeakSet<Peer>();

  constructor(leader: Pick<Leader, "state" | "renewed">, log: Log) {
    this.#leader = leader;
    this.#log = log;
  }

  /** To be called for a node's requests. While two CAs are trusted, it looks once at each connection. */
  note(peer: Peer): void {
    const { subject, certificate } = peer;
    const { state } = this.#leader;
    const bundle = trustOf(state)?.bundle ?? [];
    if (certificate === undefined || bundle.length < 2 || this.#seen.has(peer)) return;
    this.#seen.add(peer);
    const certificateSigner = signerOf(certificate, bundle);
    const row = state.nodes.get(subject.id);
    if (row === undefined || certificateSigner === undefined || row.certificateSigner === certificateSigner) return;
    const certificateExpires = validityOf(certificate).expires;
    this.#leader.renewed(row.id, { certificateExpires, certificateSigner }).catch((error) => {
      this.#seen.delete(peer);
      this.#log.warn("a node's new certificate is not in its row yet", { node: row.name, reason: messageOf(error) });
    });
  }
}
