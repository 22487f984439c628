// Errors that a person reads. The network's mistakes are Drop values (datapath/drop.ts), ours are assertions.

/** The HTTP statuses that a UserError may have. */
export const USER_ERROR_CODES = [400, 401, 403, 404, 409, 413, 429, 503, 504, 507] as const;
export type UserErrorCode = (typeof USER_ERROR_CODES)[number];

/**
 * What a caller asked for cannot be done. `code` says which kind it is, and is an HTTP status:
 * 400 the input is wrong (`field` names where), 401 the caller does not show who it is, 403 the caller may not do that,
 * 404 no such thing, 409 it clashes with what is there, 413 it is too large, 429 the caller asks too often, 503 no node
 * can do it now, 504 it is not known whether it was done, 507 no room to keep it.
 */
export class UserError extends Error {
  override name = "UserError";
  readonly code: UserErrorCode;
  readonly field: string | undefined;

  constructor(code: UserErrorCode, message: string, options: { field?: string; cause?: unknown } = {}) {
    super(message, { cause: options.cause });
    this.code = code;
    this.field = options.field;
  }
}

/** Another manager is to be asked: `managers` are HOST:PORT. */
export class MisdirectedError extends Error {
  override name = "MisdirectedError";
  readonly managers: readonly string[];

  constructor(managers: readonly string[]) {
    super(`this manager is a standby; the leader is at ${managers.join(", ")}`);
    this.managers = managers;
  }
}

/** A configuration that cannot be used: which field, and what is wrong with it. `line` counts from 1. */
export class ConfigError extends Error {
  override name = "ConfigError";
  readonly field: string;
  readonly line: number | undefined;

  constructor(field: string, message: string, options: { line?: number | undefined; cause?: unknown } = {}) {
    super(`${field}: ${message}`, { cause: options.cause });
    this.field = field;
    this.line = options.line;
  }
}

/** The machine lacks something that the agent needs. `mend` is the command that shows or mends it. */
export class PlatformError extends Error {
  override name = "PlatformError";
  readonly mend: string;

  constructor(message: string, mend: string, options?: ErrorOptions) {
    super(`${message} (${mend})`, options);
    this.mend = mend;
  }
}

/** The text of whatever was thrown. */
export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
