// What can be wrong with a call to etcd, in kinds that callers act on and in words that a person can act on.

/**
 * - `unreachable`: no connection came about, so nothing was sent.
 * - `unanswered`: etcd may have carried the call out, or may do so yet. It has no leader, or its answer is lost.
 * - `no-space`: its database has reached its quota. The transaction with which it did may have been carried out.
 * - `too-large`: the request is larger than etcd takes; `answer-too-large`: the answer is larger than this client takes.
 * - `permission`: one side does not accept the other's certificate, or the user may not do this.
 * - `not-found`: no such lease or member. `compacted`: the revision is no longer there.
 * - `not-ready`: a learner that has not caught up cannot be promoted, or members have not been connected for long enough.
 * - `refused`: any other error.
 */
export type EtcdErrorKind =
  | "unreachable"
  | "unanswered"
  | "no-space"
  | "too-large"
  | "answer-too-large"
  | "permission"
  | "not-found"
  | "compacted"
  | "not-ready"
  | "refused";

export class EtcdError extends Error {
  override name = "EtcdError";
  readonly kind: EtcdErrorKind;

  constructor(kind: EtcdErrorKind, message: string, options?: ErrorOptions) {
    super(message, options);
    this.kind = kind;
  }

  /** Whether the call has certainly changed nothing, and will not. */
  get hasChangedNothing(): boolean {
    return this.kind !== "unanswered" && this.kind !== "no-space";
  }
}

/** The answer may have so many bytes. */
export const MAX_ANSWER_BYTES = 64 * 1024 * 1024;

export function answerTooLarge(): EtcdError {
  return new EtcdError("answer-too-large", `the answer of etcd has more than ${MAX_ANSWER_BYTES} bytes`);
}

/** gRPC's status codes, which the gateway gives in `code`. */
const GRPC = { deadline: 4, notFound: 5, permission: 7, exhausted: 8, unavailable: 14, unauthenticated: 16 } as const;

/** Words of etcd's messages, which say more than the code does. The first that matches counts. */
const BY_MESSAGE: readonly (readonly [RegExp, EtcdErrorKind])[] = [
  [/database space exceeded/, "no-space"],
  [/request is too large|too many operations|larger than max/, "too-large"],
  [/has been compacted/, "compacted"],
  [/permission denied|user name|authentication|invalid auth token/, "permission"],
  [/learner member which is in sync|not enough started members|unhealthy cluster/, "not-ready"],
  [/timed out|leader changed|no leader|server stopped/, "unanswered"],
];

const BY_CODE: ReadonlyMap<number, EtcdErrorKind> = new Map([
  [GRPC.deadline, "unanswered"],
  [GRPC.unavailable, "unanswered"],
  [GRPC.notFound, "not-found"],
  [GRPC.permission, "permission"],
  [GRPC.unauthenticated, "permission"],
]);

const MENDS: Partial<Record<EtcdErrorKind, string>> = {
  "no-space": "the database of etcd is full; 'overlayctl cluster status' says what to do",
  "too-large": "start that etcd with --max-txn-ops and --max-request-bytes as docs/managers.md says",
  permission: "the certificate or user of this manager may not do this there",
};

/** The error that etcd answered with: `code` is gRPC's, `said` its message. */
export function errorOfAnswer(endpoint: string, { code, said }: { code: number; said: string }): EtcdError {
  const byMessage = BY_MESSAGE.find(([words]) => words.test(said))?.[1];
  const kind = byMessage ?? BY_CODE.get(code) ?? "refused";
  const mend = MENDS[kind] === undefined ? "" : ` (${MENDS[kind]})`;
  return new EtcdError(kind, `etcd at ${endpoint}: ${said.replace(/^etcdserver: /, "")}${mend}`);
}

/** Codes of TLS and OpenSSL that say that one side does not accept the other's certificate. */
const NOT_ACCEPTED = /^ERR_TLS_CERT|^UNABLE_TO|SELF_SIGNED|^CERT_|ALERT_(BAD|UNKNOWN|UNSUPPORTED|CERTIFICATE|REVOKED)/;

/** The error of a connection that failed; `isSent`: the request may have gone out on it. */
export function errorOfConnection(endpoint: string, cause: NodeJS.ErrnoException, isSent: boolean): EtcdError {
  const reason = cause.code ?? cause.message;
  if (NOT_ACCEPTED.test(reason)) {
    const words = `etcd at ${endpoint} and this manager do not accept each other's certificates: ${cause.message}`;
    return new EtcdError("permission", words, { cause });
  }
  if (!isSent) return new EtcdError("unreachable", `etcd at ${endpoint} cannot be reached: ${reason}`, { cause });
  return new EtcdError("unanswered", `etcd at ${endpoint} has not answered: ${cause.message}`, { cause });
}
