// Where the API's client asks.
import type { IncomingHttpHeaders } from "node:http";
import type { Readable } from "node:stream";

export type Method = "GET" | "POST" | "DELETE";

export interface ApiRequest {
  method: Method;
  path: string;
  /** Sent as JSON. */
  body?: object;
  timeoutMs: number;
  /** Called with the headers of the answer, before `call` resolves. */
  onHeaders?(headers: IncomingHttpHeaders): void;
}

/** What a person does when no answer came, and the request may have changed something. */
export const LOOK_FIRST = "look whether it was carried out before you ask again";

/**
 * Each call throws UserError with what was answered. When there was no answer it says what to do: 504 when the request may have
 * changed something, else 503.
 */
export interface ApiTarget {
  /** The JSON of the answer. */
  call<T>(request: ApiRequest): Promise<T>;
  /** The bytes of the answer, as they come. */
  stream(request: ApiRequest): Promise<Readable>;
}
