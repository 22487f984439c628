// The Docker engine, over dockerode: containers as this project sees them, and events as they come.
import { existsSync } from "node:fs";
import { createRequire } from "node:module";
import { createInterface } from "node:readline";
import type { Readable } from "node:stream";
import type Docker from "dockerode";
import { withDeadline } from "../lib/deadline.ts";
import { messageOf } from "../lib/errors.ts";

const require = createRequire(import.meta.url);

export const DOCKER_SOCKET = "/var/run/docker.sock";

/** The engine did not answer, or refused a call. `status` is HTTP's; undefined: there was no answer. */
export class DockerError extends Error {
  override name = "DockerError";
  readonly status: number | undefined;

  constructor(what: string, cause: unknown) {
    const { statusCode, json } = cause as { statusCode?: number; json?: { message?: string } };
    // dockerode's own preamble, "(HTTP code 500) server error - ", tells a person nothing.
    const reason = json?.message ?? messageOf(cause).replace(/^\(HTTP code \d+\) [^-]* - /, "");
    super(`${what}: ${reason.trim()}`, { cause });
    this.status = statusCode;
  }
}

/** How long an answer may take: an engine that hangs takes connections and never answers. */
const ANSWER_MS = 10_000;

interface DockerEngineOptions {
  /** How long a call may take. */
  answerMs?: number;
}

export interface Container {
  /** 64 hexadecimal digits. */
  readonly id: string;
  readonly name: string;
  readonly image: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly isRunning: boolean;
  /** The first process, in the engine's pid namespace; 0 when the container does not run. */
  readonly pid: number;
  /** When its last run began, in wall-clock milliseconds. */
  readonly startedAt: number;
  /** When its last run ended, in wall-clock milliseconds; before `startedAt` while it runs. */
  readonly finishedAt: number;
  /** `none`, `default`, `host`, `container:ID` or a network's name. */
  readonly networkMode: string;
  /** `none`: it has no health check. */
  readonly health: "none" | "starting" | "healthy" | "unhealthy";
  /** What its last health check printed. */
  readonly healthOutput: string;
  /** What it prints goes to a terminal. */
  readonly hasTerminal: boolean;
  readonly exitCode: number;
  readonly oomKilled: boolean;
}

export interface ContainerEvent {
  readonly id: string;
  /** `start`, `die`, `destroy`, `health_status: healthy`... */
  readonly action: string;
  /** The container's labels, with its image and name among them; for `die` also its exitCode. */
  readonly attributes: Readonly<Record<string, string>>;
}

export class DockerEngine {
  readonly socketPath: string;
  #docker: Docker | undefined;

  readonly #answerMs: number;

  constructor(socketPath = DOCKER_SOCKET, { answerMs = ANSWER_MS }: DockerEngineOptions = {}) {
    this.socketPath = socketPath;
    this.#answerMs = answerMs;
  }

  /**
   * Makes a call of dockerode, which may take `moreMs` longer than other answers. Throws DockerError, without a status when
   * no answer came in time.
   */
  async call<T>(what: string, call: (signal: AbortSignal) => Promise<T>, moreMs = 0): Promise<T> {
    try {
      return await withDeadline(this.#answerMs + moreMs, call);
    } catch (cause) {
      throw new DockerError(what, cause);
    }
  }

  /** dockerode itself, for calls that this class does not have. It takes 20 MB, which a node without Docker is spared. */
  get docker(): Docker {
    this.#docker ??= new (require("dockerode") as typeof Docker)({ socketPath: this.socketPath });
    return this.#docker;
  }

  /** Whether the machine has an engine, answering or not. */
  get isThere(): boolean {
    return existsSync(this.socketPath);
  }

  /** Whether an engine answers. */
  async answers(): Promise<boolean> {
    if (!this.isThere) return false;
    try {
      await this.call("docker ping", () => this.docker.ping());
      return true;
    } catch {
      return false;
    }
  }

  /** The container of that id, beginning of an id, or name; undefined when there is none. Throws DockerError. */
  async container(reference: string): Promise<Container | undefined> {
    try {
      const inspect = (abortSignal: AbortSignal) => this.docker.getContainer(reference).inspect({ abortSignal });
      return readContainer(await this.call(`docker inspect ${reference}`, inspect));
    } catch (error) {
      if (error instanceof DockerError && error.status === 404) return undefined;
      throw error;
    }
  }

  /** Asks the container to end, and ends it after `graceMs`. One that does not run or is gone is no error. Throws DockerError. */
  async stop(id: string, graceMs: number): Promise<void> {
    try {
      const t = Math.ceil(graceMs / 1000);
      const stop = (abortSignal: AbortSignal) => this.docker.getContainer(id).stop({ t, abortSignal });
      await this.call("docker stop", stop, t * 1000);
    } catch (error) {
      if (!(error instanceof DockerError && (error.status === 304 || error.status === 404))) throw error;
    }
  }

  /** All containers, those that are stopped too. Throws DockerError. */
  async containers(): Promise<Pick<Container, "id" | "name" | "labels">[]> {
    const rows = await this.call("docker ps", (abortSignal) => this.docker.listContainers({ all: true, abortSignal }));
    return rows.map(({ Id, Names, Labels }) => ({ id: Id, name: nameIn(Names), labels: Labels }));
  }

  /**
   * Calls `onOpen`, and then `onEvent` with each event of a container; earlier events are missing. Resolves when the engine
   * ends the stream or `signal` does. Throws DockerError.
   */
  async follow(signal: AbortSignal, onOpen: () => void, onEvent: (event: ContainerEvent) => void): Promise<void> {
    let stream: Readable;
    if (!this.isThere) throw new DockerError("docker events", new Error(`no ${this.socketPath}`));
    try {
      stream = await this.call("docker events", async (late) => {
        const abortSignal = AbortSignal.any([signal, late]);
        return (await this.docker.getEvents({ filters: { type: ["container"] }, abortSignal })) as Readable;
      });
    } catch (error) {
      if (signal.aborted) return;
      throw error;
    }
    stream.on("error", () => {}); // the loop below ends with it
    onOpen();
    try {
      for await (const line of createInterface({ input: stream })) onEvent(readEvent(line));
    } catch (cause) {
      if (!signal.aborted) throw new DockerError("docker events", cause);
    }
  }
}

function readContainer(info: Docker.ContainerInspectInfo): Container {
  const { State: state, Config: config } = info;
  const health = state.Health?.Status;
  return {
    id: info.Id,
    name: nameIn([info.Name]),
    image: config.Image,
    labels: config.Labels ?? {},
    isRunning: state.Running,
    pid: state.Pid,
    startedAt: Date.parse(state.StartedAt),
    finishedAt: Date.parse(state.FinishedAt),
    networkMode: info.HostConfig.NetworkMode ?? "default",
    health: health === "starting" || health === "healthy" || health === "unhealthy" ? health : "none",
    healthOutput: state.Health?.Log?.at(-1)?.Output ?? "",
    hasTerminal: config.Tty,
    exitCode: state.ExitCode,
    oomKilled: state.OOMKilled,
  };
}

/** The name without the slash in front. A container that is linked to others has more names, with more slashes. */
function nameIn(names: readonly string[]): string {
  return (names.find((name) => name.lastIndexOf("/") === 0) ?? "").slice(1);
}

function readEvent(line: string): ContainerEvent {
  const { Action: action, Actor: actor } = JSON.parse(line) as {
    Action: string;
    Actor: { ID: string; Attributes: Record<string, string> };
  };
  return { id: actor.ID, action, attributes: actor.Attributes };
}
