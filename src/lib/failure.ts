// How a failed request is answered, and what the client makes of that answer: the leader's HTTP face and the agent's.
import {
  MisdirectedError,
  messageOf,
  PlatformError,
  USER_ERROR_CODES,
  UserError,
  type UserErrorCode,
} from "./errors.ts";

const MISDIRECTED = 421;
/** A manager names one leader; whatever else answers may name anything. */
const MAX_MANAGERS = 16;

/** The JSON body of the answer. */
export interface Failure {
  error: string;
  /** The field of the request that is wrong. */
  field?: string;
  /** Who is to be asked instead, HOST:PORT each. */
  managers?: readonly string[];
}

/** The answer to a request whose handler threw `error`. Status 500 means a fault of overlayd itself. */
export function failureOf(error: unknown): { status: number; failure: Failure } {
  const message = messageOf(error);
  if (error instanceof UserError) {
    const { code, field } = error;
    return { status: code, failure: field === undefined ? { error: message } : { error: message, field } };
  }
  if (error instanceof MisdirectedError) {
    return { status: MISDIRECTED, failure: { error: message, managers: error.managers } };
  }
  if (error instanceof PlatformError) return { status: 503, failure: { error: message } };
  // fastify itself refuses a request that is not JSON, or too large.
  const status = (error as { statusCode?: number }).statusCode;
  if (status !== undefined && status >= 400 && status < 500) return { status, failure: { error: message } };
  return { status: 500, failure: { error: `the agent failed, its log says more: ${message}` } };
}

/** The error that the answer stands for: the UserError or MisdirectedError that the handler threw, or an Error. */
export function errorOf(status: number, body: string): Error {
  const { error, field, managers }: Failure = readFailure(body) ?? {
    error: `what answers there is not overlayd (HTTP status ${status})`,
  };
  if (status === MISDIRECTED && Array.isArray(managers)) {
    const named = managers.filter((manager): manager is string => typeof manager === "string");
    return new MisdirectedError(named.slice(0, MAX_MANAGERS));
  }
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
