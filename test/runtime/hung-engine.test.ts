// An engine that hangs: it takes every connection and answers none. Nothing waits for it for ever.
import { spawn } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { createServer, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import test, { type ExecutionContext } from "ava";
import type { ContainerWorkload } from "../../src/cluster/workload.ts";
import { systemClock } from "../../src/lib/clock.ts";
import { silentLog } from "../../src/lib/log.ts";
import { ContainerList } from "../../src/runtime/container-list.ts";
import { readLog, tailOf } from "../../src/runtime/container-log.ts";
import { type Container, Engine, type EngineError } from "../../src/runtime/engine.ts";
import { EngineWatch } from "../../src/runtime/engine-watch.ts";
import { ensurePauseImage } from "../../src/runtime/pause-image.ts";
import { ensureImage } from "../../src/runtime/pull-image.ts";
import { AwayError } from "../../src/runtime/runtime.ts";
import { processIdOf } from "../../src/runtime/task-directory.ts";
import { WatchedContainer } from "../../src/runtime/watched-container.ts";
import { VirtualClock } from "../fakes/virtual-clock.ts";

const ID = "c".repeat(64);
const CONTAINER = { id: ID, startedAt: 0, health: "none", hasTerminal: false, pid: 1 } as unknown as Container;
const WORKLOAD = { runtime: "docker", image: "app:1", registryAuth: "e30=" } as unknown as ContainerWorkload;
const PREPARATION = { progress: () => {}, signal: new AbortController().signal };

async function hungEngine(t: ExecutionContext): Promise<{ engine: Engine; open: ReadonlySet<Socket> }> {
  const directory = await mkdtemp(join(tmpdir(), "overlayd-test-"));
  const path = join(directory, "docker.sock");
  const open = new Set<Socket>();
  const server = createServer((socket) => {
    open.add(socket);
    socket.on("error", () => {});
    socket.on("close", () => open.delete(socket));
    socket.resume();
  });
  await new Promise<void>((resolve) => server.listen(path, resolve));
  t.teardown(async () => {
    for (const socket of open) socket.destroy();
    server.close();
    await rm(directory, { recursive: true });
  });
  return { engine: new Engine(path, { answerMs: 50 }), open };
}

const CALLS: [name: string, call: (engine: Engine) => Promise<unknown>][] = [
  ["inspect", (engine) => engine.container(ID)],
  ["ps", (engine) => engine.containers()],
  ["stop", (engine) => engine.stop(ID, 0)],
  [
    "events",
    (engine) =>
      engine.follow(
        new AbortController().signal,
        () => {},
        () => {},
      ),
  ],
  ["logs", (engine) => readLog(engine, CONTAINER, { follow: true, tail: null, since: null })],
  ["the end of a log", (engine) => tailOf(engine, CONTAINER)],
  ["the task's image", (engine) => ensureImage(engine, WORKLOAD, PREPARATION, { clock: systemClock, environment: {} })],
  ["the image that holds namespaces", (engine) => ensurePauseImage(engine)],
];
for (const [name, call] of CALLS) {
  test(`an engine that hangs is away for ${name}`, async (t) => {
    const { engine } = await hungEngine(t);
    const watch = new EngineWatch({ engine, clock: systemClock, log: silentLog });
    const error = await t.throwsAsync(
      watch.guard(() => call(engine)),
      { instanceOf: AwayError },
    );
    t.regex(error!.message, /no answer within/);
    t.is((error!.cause as EngineError).status, undefined);
  });
}

test("an engine that hangs does not answer", async (t) => {
  t.false(await (await hungEngine(t)).engine.answers());
});

test("a look at all containers that is not answered is none: nothing is taken for gone", async (t) => {
  const { engine } = await hungEngine(t);
  const listen = (listener: { opened(): void }) => {
    listener.opened();
    return () => {};
  };
  const watch = { isUp: true, listen };
  const list = new ContainerList({ engine, watch, log: silentLog, matters: () => true, changed: () => {} });
  await list.close();
  t.false(list.isCurrent);
});

test("a task whose process is gone has ended, whatever an engine that hangs does not say", async (t) => {
  const { engine } = await hungEngine(t);
  const child = spawn("sleep", ["600"]);
  const process = await processIdOf(child.pid!);
  const clock = new VirtualClock();
  const watch = { isUp: true } as EngineWatch;
  const options = { engine, watch, clock, log: silentLog, container: CONTAINER, pauseId: ID, process, ports: null };
  const watched = new WatchedContainer(options);
  t.teardown(() => watched.close());
  const gone = new Promise((resolve) => child.on("exit", resolve));
  child.kill("SIGKILL");
  await gone;
  let ended: unknown;
  void watched.exited.then((exit) => {
    ended = exit;
  });
  for (let i = 0; i < 200 && ended === undefined; i++) {
    await clock.advance(1000);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
  t.deepEqual(ended, { exitCode: null, error: "it ended, and Docker does not say how" });
});
