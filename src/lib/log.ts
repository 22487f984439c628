// Logging through pino. The names of fields are fixed here, so that a log can be searched.
import { type DestinationStream, pino } from "pino";

/** The fields that a log line may carry besides its message. */
interface LogFields {
  node?: string;
  peer?: string;
  network?: string;
  service?: string;
  task?: string;
  endpoint?: string;
  /** The node whose log it is. */
  agent?: string;
  address?: string;
  port?: string;
  link?: string;
  path?: string;
  revision?: number;
  reason?: string;
  /** Who had something written, what, about which thing, and what came of it. */
  caller?: string;
  command?: string;
  object?: string;
  result?: string;
  count?: number;
  ms?: number;
  err?: unknown;
}

export interface Log {
  debug(message: string, fields?: LogFields): void;
  info(message: string, fields?: LogFields): void;
  warn(message: string, fields?: LogFields): void;
  error(message: string, fields?: LogFields): void;
  /** The same log with `fields` on every line. */
  with(fields: LogFields): Log;
}

type LogLevel = "debug" | "info" | "warn" | "error" | "silent";

/** A log of JSON lines to `destination` (default: standard error). */
export function createLog(level: LogLevel, destination: DestinationStream = pino.destination(2)): Log {
  return wrap(pino({ level, base: null, timestamp: pino.stdTimeFunctions.isoTime }, destination));
}

/** A log that writes nothing. */
export const silentLog: Log = createLog("silent");

function wrap(logger: pino.Logger): Log {
  return {
    debug: (message, fields = {}) => logger.debug(fields, message),
    info: (message, fields = {}) => logger.info(fields, message),
    warn: (message, fields = {}) => logger.warn(fields, message),
    error: (message, fields = {}) => logger.error(fields, message),
    with: (fields) => wrap(logger.child(fields)),
  };
}
