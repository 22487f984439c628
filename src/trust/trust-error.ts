// Why another process, or a file, is not trusted.

/**
 * `foreign`: not of this cluster. `expired`, `not-yet-valid`: by this machine's clock. `role`: of this cluster, but not
 * allowed here. `revoked`: its owner was removed. `damaged`: a file or text that cannot be read.
 */
type TrustReason = "foreign" | "expired" | "not-yet-valid" | "role" | "revoked" | "damaged";

export class TrustError extends Error {
  override name = "TrustError";
  readonly reason: TrustReason;
  /** The HTTP status with which the leader's server and the agent's answer it. */
  readonly statusCode = 403;

  constructor(reason: TrustReason, message: string, options?: ErrorOptions) {
    super(message, options);
    this.reason = reason;
  }
}
