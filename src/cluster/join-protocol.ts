// What a machine and a manager say to each other when it joins the cluster, and when its certificate is renewed.
import { z } from "zod";
import { MAX_WORD, text } from "../lib/bounds.ts";
import { NodeIdentity } from "./protocol.ts";
import { ClusterIdentity, Id } from "./schema.ts";
import { ClusterSettings } from "./settings.ts";
import { MAX_PEM, Role } from "./trust-rows.ts";

const Pem = text(MAX_PEM);

/** Asked for without a certificate. */
export const JoinRequest = z.object({
  /** As 'overlayctl join-token' prints it. */
  token: text(MAX_WORD),
  /** A certificate request, PEM: it shows that the node holds its private key. */
  request: Pem,
  identity: NodeIdentity,
  /** What the node is to be; left out: what the token is for. */
  role: Role.optional(),
  /** The node's wall clock, milliseconds. */
  now: z.number(),
});
/** As a node may write it. */
export type JoinRequest = z.input<typeof JoinRequest>;

export const RenewRequest = z.object({
  /** A certificate request, PEM. */
  request: Pem,
});
export type RenewRequest = z.infer<typeof RenewRequest>;

/** A certificate authority with its private key. */
const Authority = z.object({ certificate: Pem, key: Pem });

/** What a node is given with each certificate, PEM all. */
const Membership = z.object({
  certificate: Pem,
  /** Whose certificates the node takes. */
  bundle: z.array(Pem).min(1),
  /** What it shows besides, for nodes that still trust an earlier authority. */
  bridges: z.array(Pem).default([]),
  role: Role,
  /** HOST:PORT of each. */
  managers: z.array(text(MAX_WORD)),
  /** A manager's: what it signs with, and the key of secrets in the store (trust/identity-files.ts). */
  keys: z
    .object({
      ...{ nodes: Authority, next: Authority.optional(), store: Authority, nextStore: Authority.optional() },
      sealKey: text(MAX_WORD),
    })
    .optional(),
});

export const RenewAnswer = Membership;
export type RenewAnswer = z.infer<typeof RenewAnswer>;

export const JoinAnswer = Membership.extend({ cluster: ClusterIdentity, nodeId: Id, settings: ClusterSettings });
export type JoinAnswer = z.infer<typeof JoinAnswer>;
