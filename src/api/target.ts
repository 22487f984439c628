// Where the API's client asks.
import type { Readable } from "node:stream";

export type Method = "GET" | "POST" | "DELETE";

export interface ApiRequest {
  method: Method;
  path: string;
  /** Sent as JSON. */
  body?: object;
  timeoutMs: number;
}

/** Each call throws UserError with what was answered, or 503 in words that say what to do when there was no answer. */
export interface ApiTarget {
  /** The JSON of the answer. */
  call<T>(request: ApiRequest): Promise<T>;
  /** The bytes of the answer, as they come. */
  stream(request: ApiRequest): Promise<Readable>;
}
