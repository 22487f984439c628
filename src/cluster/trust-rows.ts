// Rows that say who is of the cluster and with what rights. Certificates' private keys are in none of them.
import { z } from "zod";
import { firstOf, Id, MAX_WORD, text } from "../lib/bounds.ts";

/** Characters of a certificate as PEM. */
export const MAX_PEM = 16_384;

/** How many changes of the authority are bridged. */
export const MAX_BRIDGES = 16;

const Millis = z.int().min(0);

/** What a node may do: a manager may do all, a worker speaks for itself alone. */
export const Role = z.enum(["manager", "worker"]);
export type Role = z.infer<typeof Role>;

/** What an agent can speak and do: see features.ts. Protocol 0 is that of versions that did not say it. */
export const NodeVersion = z.object({
  protocol: z.int().min(0),
  features: firstOf(text(MAX_WORD), 1000),
});
export type NodeVersion = z.infer<typeof NodeVersion>;

/** The two certificate authorities: that of nodes and users, and that of the managers' etcd. */
export const AuthorityPurpose = z.enum(["nodes", "store"]);
export type AuthorityPurpose = z.infer<typeof AuthorityPurpose>;

/** Whose certificates are taken. While the certificate authority is changed there are two. */
export const Trust = z.object({
  /** What the authority is for; left out: for nodes and users. */
  authority: AuthorityPurpose.optional(),
  /** The certificates of the authorities, PEM. */
  bundle: z.array(text(MAX_PEM)).min(1),
  /** The digest of the public key of the authority that issues certificates, see trust/certificates.ts. */
  signer: text(MAX_WORD),
  /** Certificates that lead from earlier authorities to this one: with them earlier join tokens and nodes that were off find it. */
  bridges: z.array(text(MAX_PEM)).max(MAX_BRIDGES).optional(),
});
export type Trust = z.infer<typeof Trust>;

/** What a new node shows to get the role. Only the leader reads it. */
export const JoinToken = z.object({ role: Role, secret: text(MAX_WORD), createdAt: Millis });
export type JoinToken = z.infer<typeof JoinToken>;

/** A person with a certificate that may send commands from any machine. Only the leader reads it. */
export const User = z.object({
  id: Id,
  name: text(63),
  createdAt: Millis,
  /** When the certificate ends. */
  expires: Millis,
});
export type User = z.infer<typeof User>;
