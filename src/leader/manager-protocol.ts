// What managers ask of each other, also of one that does not lead. The row of a caller's node must have the role manager.
//   GET  /v1/managers/report                            -> ManagerReport
//   POST /v1/managers/copy            CopyRequest       -> CopyAnswer
//   POST /v1/managers/member/check                      -> EtcdCheck[]
//   POST /v1/managers/member/begin    MemberStart       -> 204
//   POST /v1/managers/member/remove                     -> 204
//   POST /v1/managers/member/trust    MemberTrust       -> 204
//   POST /v1/managers/member/lead     GiveLead          -> 204
import { z } from "zod";
import { ClusterIdentity } from "../cluster/schema.ts";

/** CAs by the digests of their public keys. */
export const MemberTrust = z.object({
  /** Those whose certificates a member's process takes. */
  trusts: z.array(z.string()),
  /** The one that signed the certificate that it shows; null: none of those. */
  signer: z.string().nullable(),
});
export type MemberTrust = z.infer<typeof MemberTrust>;

/** The member of etcd that is to lead it, by etcd's id. */
export const GiveLead = z.object({ member: z.string().regex(/^\d{1,20}$/, "it is no id of a member of etcd") });

/** What a manager's own etcd looks like from its node. */
const MemberReport = z.object({
  /** The process's: running, waiting, failed or stopped. */
  process: z.string(),
  pid: z.int().nullable(),
  condition: z.enum(["well", "damaged", "ended"]),
  /** Why it does not run, or what it warns of; null: nothing. */
  problem: z.string().nullable(),
  /** What a person may do about that. */
  mend: z.string().nullable(),
  version: z.string().nullable(),
  isLearner: z.boolean(),
  trust: MemberTrust,
  /** Bytes of its database. */
  bytes: z.int().min(0),
});
export type MemberReport = z.infer<typeof MemberReport>;

export const ManagerReport = z.object({
  node: z.string(),
  /** What the manager leads with, or follows; null: nothing yet. */
  cluster: ClusterIdentity.nullable(),
  revision: z.int().min(0),
  role: z.enum(["leader", "standby", "idle"]),
  store: z.enum(["file", "etcd", "external etcd", "copy"]),
  /** Why it does not lead although it should, or does not follow. */
  problem: z.string().nullable(),
  member: MemberReport.nullable(),
  /** The digests of the CAs whose keys it has. */
  authorities: z.array(z.string()),
  /** When it took over by hand, and with which revision; null: it never did. */
  tookOver: z.object({ epoch: z.int(), revision: z.int() }).nullable(),
  /** The newest export on its disk. */
  newestExport: z.object({ path: z.string(), at: z.number() }).nullable(),
});
export type ManagerReport = z.infer<typeof ManagerReport>;
