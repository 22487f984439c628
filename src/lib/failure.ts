// How a failed request is answered, and what the client makes of that answer: the leader's HTTP face and the agent's.
import { messageOf, PlatformError, USER_ERROR_CODES, UserError, type UserErrorCode } from "./errors.ts";

/** The JSON body of the answer. */
export interface Failure {
  error: string;
  /** The field of the request that is wrong. */
  field?: string;
}

/** The answer to a request whose handler threw `error`. Status 500 means a fault of overlayd itself. */
export function failureOf(error: unknown): { status: number; failure: Failure } {
  const message = messageOf(error);
  if (error instanceof UserError) {
    const { code, field } = error;
    return { status: code, failure: field === undefined ? { error: message } : { error: message, field } };
  }
  if (error instanceof PlatformError) return { status: 503, failure: { error: message } };
  // fastify itself refuses a request that is not JSON, or too large.
  const status = (error as { statusCode?: number }).statusCode;
  if (status !== undefined && status >= 400 && status < 500) return { status, failure: { error: message } };
  return { status: 500, failure: { error: `the agent failed, its log says more: ${message}` } };
}

/** The error that the answer stands for: the UserError that the handler threw, or an Error. */
export function errorOf(status: number, body: string): Error {
  const { error, field } = readFailure(body) ?? { error: `what answers there is not overlayd (HTTP status ${status})` };
  const code = USER_ERROR_CODES.find((known): known is UserErrorCode => known === status);
  if (code === undefined) return new Error(error);
  return new UserError(code, error, field === undefined ? {} : { field });
}

function readFailure(body: string): Failure | undefined {
  try {
    const answer = JSON.parse(body) as Partial<Failure> | null;
    return typeof answer?.error === "string" ? (answer as Failure) : undefined;
  } catch {
    return undefined;
  }
}
