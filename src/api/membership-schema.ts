// What the local API takes and answers about who is in the cluster: making and joining one, tokens, roles, users.
import { z } from "zod";
import { AskedSettings } from "../cluster/settings.ts";
import { AuthorityPurpose, Role } from "../cluster/trust-rows.ts";
import { text } from "../lib/bounds.ts";
import { AddressPort, HostPort } from "../lib/host-port.ts";

/** Where a manager answers, if not where its configuration says. */
const WHERE = {
  listen: AddressPort.optional(),
  advertise: AddressPort.refine(
    ({ host }) => host !== "0.0.0.0",
    "nodes cannot reach 0.0.0.0: an address of this manager is needed",
  ).optional(),
};

export const Init = AskedSettings.extend(WHERE);
export type Init = z.input<typeof Init>;
export type CheckedInit = z.output<typeof Init>;

/** `manager`: the one that is asked. The role comes with the token. */
export const Join = z.strictObject({ ...WHERE, manager: HostPort, token: text(1024) });
export type Join = z.input<typeof Join>;
export type CheckedJoin = z.output<typeof Join>;

export interface InitView {
  cluster: string;
  nodeId: string;
  /** Where others join: HOST:PORT. */
  address: string;
  /** The token with which workers join. */
  token: string;
  /** The state of a data directory of an earlier version was taken over. */
  adopted: boolean;
}

export interface JoinView {
  cluster: string;
  nodeId: string;
  role: Role;
}

export interface JoinTokenView {
  role: Role;
  token: string;
  /** Where nodes join: HOST:PORT of each manager, the leader's first. */
  managers: string[];
}

export const SetRole = z.strictObject({ role: Role });

/** `request`: a certificate request, PEM. The key stays with the client. */
export const AddUser = z.strictObject({ name: text(255), request: text(16_384) });
export type AddUser = z.infer<typeof AddUser>;

export interface UserView {
  id: string;
  name: string;
  createdAt: number;
  /** When its certificate ends, wall-clock milliseconds. */
  expires: number;
}

/** What a user needs besides its key. */
export interface UserCertificateView extends UserView {
  cluster: string;
  /** PEM. */
  certificate: string;
  /** The certificates of the cluster's CAs, PEM each. */
  bundle: string[];
  /** HOST:PORT of each. */
  managers: string[];
}

/** Left out: both. */
export const RotateAuthority = z.strictObject({ authority: AuthorityPurpose.optional() });
export type RotateAuthority = z.infer<typeof RotateAuthority>;

/** How far the change of a certificate authority came. */
export interface AuthorityView {
  authority: AuthorityPurpose;
  /** The digest of the public key of the newest one. */
  signer: string;
  /** Names of the nodes that the change waits for; none: it is done. */
  waitsFor: string[];
  /** Why it does not go on without a person, and what to type; null: it does, or is done. An earlier version leaves it out. */
  reason?: string | null;
}
