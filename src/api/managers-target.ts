// The managers of a cluster, asked from any machine with a user's certificate.
import type { Readable } from "node:stream";
import { MisdirectedError, messageOf, UserError } from "../lib/errors.ts";
import { AnswerLostError, call, stream, UnreachableError } from "../lib/http.ts";
import type { ClientConnections } from "../trust/tls.ts";
import type { StatusView } from "./schema.ts";
import { type ApiRequest, type ApiTarget, LOOK_FIRST } from "./target.ts";

/** What managers answer users under. */
const PREFIX = "/operator";
/** How long a manager has to say that it is there. */
const STATUS_TIMEOUT_MS = 5000;
/** A manager that leads no longer names another one, which may have stopped leading too. */
const MAX_TRIES = 4;

export class ManagersTarget implements ApiTarget {
  /** HOST:PORT of each. */
  readonly #managers: readonly string[];
  readonly #connections: ClientConnections;
  /** HOST:PORT of the manager that answered last. */
  #manager: string | undefined;
  readonly #heard: (managers: readonly string[]) => void;

  /** `heard` gets the managers that the cluster has now, as one that leads or follows says. */
  constructor(
    managers: readonly string[],
    connections: ClientConnections,
    heard: (managers: readonly string[]) => void,
  ) {
    this.#managers = managers;
    this.#connections = connections;
    this.#heard = heard;
  }

  call<T>(request: ApiRequest): Promise<T> {
    return this.#ask(request, (manager, asked) => call<T>(this.#at(manager), asked));
  }

  stream(request: ApiRequest): Promise<Readable> {
    return this.#ask(request, (manager, asked) => stream(this.#at(manager), asked));
  }

  #at(manager: string) {
    return { address: manager, agent: this.#connections.agent };
  }

  async #ask<T>(request: ApiRequest, ask: (manager: string, request: ApiRequest) => Promise<T>): Promise<T> {
    const asked = { ...request, path: `${PREFIX}${request.path}` };
    for (let tries = 1; ; tries++) {
      this.#manager ??= await this.#findManager();
      const manager = this.#manager;
      try {
        return await ask(manager, asked);
      } catch (error) {
        if (error instanceof AnswerLostError) throw answerLost(manager, request, error);
        const mayAskAnother = error instanceof MisdirectedError || error instanceof UnreachableError;
        if (!mayAskAnother || tries === MAX_TRIES) throw error;
        this.#manager = error instanceof MisdirectedError ? error.managers[0] : undefined;
      }
    }
  }

  /** The first manager that has a leader, else the first one that answers. Throws UserError 503. */
  async #findManager(): Promise<string> {
    const reasons: string[] = [];
    const answering: string[] = [];
    const asked = this.#managers.map(async (manager) => {
      const request = { method: "GET", path: `${PREFIX}/v1/status`, timeoutMs: STATUS_TIMEOUT_MS } as const;
      try {
        const { connected, managers } = await call<StatusView>(this.#at(manager), request);
        answering.push(manager);
        if (connected) return { manager, managers };
      } catch (error) {
        if (error instanceof UserError && error.code !== 503) throw error; // such as a certificate that was revoked
        reasons.push(`${manager}: ${messageOf(error)}`);
      }
      throw new UnreachableError("it has no leader");
    });
    try {
      const { manager, managers = [] } = await Promise.any(asked); // a manager of a version before names none
      this.#heard(managers);
      return manager;
    } catch (error) {
      const refusal = (error as AggregateError).errors.find((one) => one instanceof UserError);
      if (refusal !== undefined) throw refusal;
      if (answering[0] !== undefined) return answering[0];
      throw new UserError(
        503,
        `no manager of the cluster answers (${reasons.join("; ")}); if the cluster has others by now, write one of them into the file's 'managers', or make a new file with 'overlayctl user add' on a manager`,
        { cause: error },
      );
    }
  }
}

function answerLost(manager: string, { method }: ApiRequest, cause: AnswerLostError): UserError {
  const message = `the answer of ${manager} did not arrive (${cause.message})`;
  if (method === "GET") return new UserError(503, message, { cause });
  return new UserError(504, `${message}; ${LOOK_FIRST}`, { cause });
}
