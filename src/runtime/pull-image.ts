// Pulls a task's image when Docker does not have it, and reports how far the pull is.
import type { Readable } from "node:stream";
import type { ContainerWorkload } from "../cluster/workload.ts";
import type { Clock } from "../lib/clock.ts";
import { registryAuthFor } from "../lib/registry-auth.ts";
import { type DockerEngine, DockerError } from "./docker-engine.ts";
import { NotYetError, type Preparation, RejectedError } from "./runtime.ts";

/** How long the engine may take to answer: it answers once its registry has. */
const REGISTRY_MS = 120_000;
/** After this silence of the engine the agent gives a pull up. During a large layer the engine tells its progress each second. */
const IDLE_MS = 120_000;

/** Time between two messages of progress. */
const REPORT_MS = 1000;

/** A line of the engine's answer. */
interface PullLine {
  /** The layer's id. */
  id?: string;
  /** `Downloading`, `Download complete`, `Extracting`... */
  status?: string;
  progressDetail?: { current?: number; total?: number };
}

/** Credentials are the service's, else this node's own. Throws DockerError, RejectedError, and NotYetError without the service's credentials. */
export async function ensureImage(
  engine: DockerEngine,
  workload: ContainerWorkload,
  { progress, signal }: Preparation,
  { clock, environment }: { clock: Clock; environment: NodeJS.ProcessEnv },
): Promise<void> {
  const { image } = workload;
  if (await hasImage(engine, image)) return;
  if (workload.isAuthWithheld === true) {
    progress(
      `waits for a manager: the credentials to pull ${image} are kept in memory, and this machine was started again`,
    );
    throw new NotYetError(`the credentials to pull ${image} are not here`);
  }
  progress(`pulling ${image}`);
  const layers = new Layers();
  let reportedAt = clock.monotonic();
  const onProgress = (line: PullLine): void => {
    layers.add(line);
    if (clock.monotonic() - reportedAt < REPORT_MS || layers.total === 0) return;
    reportedAt = clock.monotonic();
    progress(`pulling ${image}: ${megabytes(layers.current)} of ${megabytes(layers.total)} MB`);
  };
  const base64 = workload.registryAuth ?? registryAuthFor(image, environment);
  const answer = await begin(engine, image, base64, signal);
  await new Promise<void>((resolve, reject) => {
    const late = Object.assign(new Error(`the engine reported no progress for ${IDLE_MS / 1000} s`), {
      code: "ETIMEDOUT",
    });
    const isIdle = (): void => void (answer as Readable).destroy(late);
    let idle = clock.after(IDLE_MS, isIdle);
    answer.on("data", () => {
      idle.cancel();
      idle = clock.after(IDLE_MS, isIdle);
    });
    const finished = (cause: NodeJS.ErrnoException | null): void => {
      idle.cancel();
      if (cause === null) resolve();
      else reject(pullError(image, cause));
    };
    engine.docker.modem.followProgress(answer, finished, onProgress);
  });
}

/** An error with a code is the connection's; one that Docker itself reports has none. */
function pullError(image: string, cause: NodeJS.ErrnoException): Error {
  const error = new DockerError(`image ${image} cannot be pulled`, cause);
  return cause.code === undefined ? new RejectedError(error.message, { cause }) : error;
}

async function begin(
  engine: DockerEngine,
  image: string,
  base64: string | null,
  abortSignal: AbortSignal,
): Promise<NodeJS.ReadableStream> {
  try {
    const what = `image ${image} cannot be pulled`;
    return await engine.call(
      what,
      (late) => {
        const signal = AbortSignal.any([abortSignal, late]);
        return engine.docker.pull(image, {
          abortSignal: signal,
          ...(base64 === null ? {} : { authconfig: { base64 } }),
        });
      },
      REGISTRY_MS,
    );
  } catch (error) {
    if (!(error instanceof DockerError) || error.status === undefined) throw error;
    throw new RejectedError(error.message, { cause: error });
  }
}

async function hasImage(engine: DockerEngine, image: string): Promise<boolean> {
  try {
    await engine.call(`docker image inspect ${image}`, () => engine.docker.getImage(image).inspect());
    return true;
  } catch (error) {
    if (error instanceof DockerError && error.status === 404) return false;
    throw error;
  }
}

/** How much of an image there is so far. */
class Layers {
  // BOUNDED: by the layers of one image; keyed by layer.
  readonly #byId = new Map<string, { current: number; total: number }>();

  /** Figures of the extraction are left out: they begin again at zero. */
  add({ id = "", status = "", progressDetail: { current, total } = {} }: PullLine): void {
    if (status === "Downloading" && current !== undefined && total !== undefined)
      this.#byId.set(id, { current, total });
    const layer = this.#byId.get(id);
    if (layer !== undefined && status === "Download complete") layer.current = layer.total;
  }

  get current(): number {
    return this.#sum("current");
  }

  get total(): number {
    return this.#sum("total");
  }

  #sum(field: "current" | "total"): number {
    return [...this.#byId.values()].reduce((sum, layer) => sum + layer[field], 0);
  }
}

function megabytes(bytes: number): string {
  return (bytes / 1e6).toFixed(1);
}
