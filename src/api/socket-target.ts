// The agent of this machine, asked over its unix socket.
import { messageOf, UserError } from "../lib/errors.ts";
import { AnswerLostError, call, stream, UnreachableError } from "../lib/http.ts";
import { type ApiRequest, type ApiTarget, LOOK_FIRST } from "./target.ts";

export function socketTarget(socketPath: string): ApiTarget {
  const explain =
    ({ method }: ApiRequest) =>
    (error: unknown): never => {
      if (error instanceof UnreachableError || error instanceof AnswerLostError) {
        throw explained(socketPath, method, error);
      }
      throw error;
    };
  return {
    call: (request) => call({ socketPath }, request).catch(explain(request)) as Promise<never>,
    stream: (request) => stream({ socketPath }, request).catch(explain(request)),
  };
}

/** Says what a person can do when no agent answers. */
function explained(path: string, method: ApiRequest["method"], error: UnreachableError | AnswerLostError): UserError {
  const reasons = new Map([
    [
      "ENOENT",
      `no agent listens on ${path}: start it with 'overlayd --config FILE', or name its socket with --socket or OVERLAYD_SOCKET`,
    ],
    ["ECONNREFUSED", `the agent that made ${path} is gone: start it again with 'overlayd --config FILE'`],
    [
      "EACCES",
      `may not open ${path}: run as root or as a member of the group overlayd (sudo overlayctl ..., usermod -aG overlayd USER)`,
    ],
    ["ECONNRESET", `the agent on ${path} stopped before it answered`],
  ]);
  const message = reasons.get(error.message) ?? `cannot ask the agent on ${path}: ${messageOf(error.cause)}`;
  if (error instanceof UnreachableError || method === "GET") return new UserError(503, message, { cause: error });
  return new UserError(504, `${message}; ${LOOK_FIRST}`, { cause: error });
}
