// A pull as the engine tells it, line by line: what is said of its progress, and who is to blame when it fails.
import { PassThrough } from "node:stream";
import test from "ava";
import { ContainerWorkload } from "../../src/cluster/workload.ts";
import { DockerEngine, DockerError } from "../../src/runtime/docker-engine.ts";
import { ensureImage } from "../../src/runtime/pull-image.ts";
import { NotYetError, RejectedError } from "../../src/runtime/runtime.ts";
import { VirtualClock } from "../fakes/virtual-clock.ts";

type Finished = (error: Error | null) => void;
type Told = (line: object) => void;

/** An engine without images; `pull` plays what its answer says. */
function engineThat(pull: (finished: Finished, told: Told) => void): DockerEngine {
  const missing = Object.assign(new Error("no such image"), { statusCode: 404 });
  const docker = {
    getImage: () => ({ inspect: () => Promise.reject(missing) }),
    pull: async () => new PassThrough(),
    modem: {
      followProgress(answer: PassThrough, finished: Finished, told: Told) {
        answer.on("error", finished);
        pull(finished, told);
      },
    },
  };
  return Object.defineProperty(new DockerEngine("/none"), "docker", { value: docker });
}

async function pulled(engine: DockerEngine, clock = new VirtualClock()): Promise<string[]> {
  const messages: string[] = [];
  const preparation = {
    progress: (message: string) => void messages.push(message),
    signal: new AbortController().signal,
  };
  const workload = ContainerWorkload.parse({ runtime: "docker", image: "app:1", registryAuth: "e30=" });
  await ensureImage(engine, workload, preparation, { clock, environment: {} });
  return messages;
}

const layer = (id: string, status: string, current?: number, total?: number) => ({
  id,
  status,
  progressDetail: current === undefined ? {} : { current, total },
});

test("what has arrived is told of all layers together, once a second, and never falls back", async (t) => {
  const clock = new VirtualClock();
  const lines = [
    layer("a", "Pulling fs layer"),
    layer("a", "Downloading", 1_000_000, 4_000_000),
    layer("b", "Downloading", 500_000, 2_000_000),
    layer("a", "Downloading", 3_000_000, 4_000_000),
    layer("a", "Download complete"),
    layer("a", "Extracting", 100_000, 4_000_000),
    layer("b", "Download complete"),
  ];
  const engine = engineThat(async (finished, told) => {
    for (const line of lines) {
      await clock.advance(1000);
      told(line);
    }
    finished(null);
  });
  t.deepEqual(await pulled(engine, clock), [
    "pulling app:1",
    "pulling app:1: 1.0 of 4.0 MB",
    "pulling app:1: 1.5 of 6.0 MB",
    "pulling app:1: 3.5 of 6.0 MB",
    "pulling app:1: 4.5 of 6.0 MB",
    "pulling app:1: 4.5 of 6.0 MB",
    "pulling app:1: 6.0 of 6.0 MB",
  ]);
});

test("what the registry refuses is the service's fault, an engine that ends is not", async (t) => {
  const refused = engineThat((finished) => finished(new Error("manifest unknown")));
  await t.throwsAsync(pulled(refused), {
    instanceOf: RejectedError,
    message: "image app:1 cannot be pulled: manifest unknown",
  });
  const ended = engineThat((finished) => finished(Object.assign(new Error("aborted"), { code: "ECONNRESET" })));
  const error = await t.throwsAsync(pulled(ended), { instanceOf: DockerError });
  t.is((error as DockerError).status, undefined);
});

test("a pull that is not heard of for two minutes has failed, by no fault of the service", async (t) => {
  const clock = new VirtualClock();
  const pull = t.throwsAsync(
    pulled(
      engineThat(() => {}),
      clock,
    ),
    { instanceOf: DockerError },
  );
  for (let i = 0; i < 13; i++) {
    await new Promise((resolve) => setImmediate(resolve));
    await clock.advance(10_000);
  }
  t.regex((await pull)!.message, /the engine reported no progress for 120 s/);
});

test("without the service's credentials nothing is pulled, and the task says what it waits for", async (t) => {
  const engine = engineThat(() => t.fail("it pulls"));
  const messages: string[] = [];
  const preparation = { progress: (message: string) => messages.push(message), signal: new AbortController().signal };
  const workload = { ...ContainerWorkload.parse({ runtime: "docker", image: "app:1" }), isAuthWithheld: true };
  const pulling = ensureImage(engine, workload, preparation, { clock: new VirtualClock(), environment: {} });
  await t.throwsAsync(pulling, { instanceOf: NotYetError });
  t.regex(
    messages.join(),
    /waits for a manager: the credentials to pull app:1 are kept in memory, and this machine was started again/,
  );
});
