// An engine that hangs: it takes every connection and answers none. Nothing waits for it for ever.
import { spawn } from "node:child_process";
import { rm } from "node:fs/promises";
import { createServer as createHttpServer, type ServerResponse } from "node:http";
import { createServer, type Socket } from "node:net";
import { join } from "node:path";
import test, { type ExecutionContext } from "ava";
import type { ContainerWorkload } from "../../src/cluster/workload.ts";
import { systemClock } from "../../src/lib/clock.ts";
import { silentLog } from "../../src/lib/log.ts";
import { ContainerList } from "../../src/runtime/container-list.ts";
import { readLog, tailOf } from "../../src/runtime/container-log.ts";
import { DockerRuntime } from "../../src/runtime/docker.ts";
import { type Container, DockerEngine, type DockerError } from "../../src/runtime/docker-engine.ts";
import { DockerWatch } from "../../src/runtime/docker-watch.ts";
import { ensurePauseImage } from "../../src/runtime/pause-image.ts";
import { processIdOf } from "../../src/runtime/process-id.ts";
import { ProcessWatch } from "../../src/runtime/process-watch.ts";
import { ensureImage } from "../../src/runtime/pull-image.ts";
import { AwayError, type TaskSpec } from "../../src/runtime/runtime.ts";
import type { Sandboxes } from "../../src/runtime/sandbox.ts";
import { WatchedContainer } from "../../src/runtime/watched-container.ts";
import { VirtualClock } from "../fakes/virtual-clock.ts";
import { temporaryDirectory } from "../temporary.ts";

const ID = "c".repeat(64);
const CONTAINER = { id: ID, startedAt: 0, health: "none", hasTerminal: false, pid: 1 } as unknown as Container;
const WORKLOAD = { runtime: "docker", image: "app:1", registryAuth: "e30=" } as unknown as ContainerWorkload;
const PREPARATION = { progress: () => {}, signal: new AbortController().signal };

async function hungEngine(t: ExecutionContext): Promise<{ engine: DockerEngine; open: ReadonlySet<Socket> }> {
  const directory = temporaryDirectory("test");
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
  return { engine: new DockerEngine(path, { answerMs: 50 }), open };
}

const CALLS: [name: string, call: (engine: DockerEngine) => Promise<unknown>][] = [
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
    const watch = new DockerWatch({ engine, clock: systemClock, log: silentLog });
    const error = await t.throwsAsync(
      watch.guard(() => call(engine)),
      { instanceOf: AwayError },
    );
    t.regex(error!.message, /no answer within/);
    t.is((error!.cause as DockerError).status, undefined);
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
  const watch = { isUp: true } as DockerWatch;
  const shared = { engine, watch, clock, log: silentLog, processes: new ProcessWatch({ clock, log: silentLog }) };
  const watched = new WatchedContainer({ ...shared, container: CONTAINER, pauseId: ID, process, ports: null });
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

interface SlowEngine {
  engine: DockerEngine;
  /** Containers that are there, by id. */
  containers: Map<string, { name: string; labels: Record<string, string>; running: boolean }>;
}

/** An engine that makes its first container only when it is asked for a second one, and answers the first call then or never. */
async function slowEngine(t: ExecutionContext, answersLate: boolean): Promise<SlowEngine> {
  const directory = temporaryDirectory("test");
  const path = join(directory, "docker.sock");
  const containers: SlowEngine["containers"] = new Map();
  let creations = 0;
  let first: { response: ServerResponse; make: () => string } | undefined;
  const server = createHttpServer(async (request, response) => {
    const say = (status: number, body: unknown): void => {
      response.writeHead(status, { "content-type": "application/json" }).end(JSON.stringify(body));
    };
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(chunk as Buffer);
    const url = new URL(request.url!, "http://engine");
    const [, kind, reference, verb] = url.pathname.split("/");
    if (kind === "images") return say(200, { Id: "sha256:0" });
    if (reference === "json") {
      const rows = [...containers].map(([Id, { labels }]) => ({ Id, Labels: labels }));
      return say(200, rows);
    }
    if (reference === "create") {
      const name = url.searchParams.get("name")!;
      const { Labels: labels } = JSON.parse(Buffer.concat(chunks).toString()) as { Labels: Record<string, string> };
      const make = (): string => {
        const id = `${++creations}`.repeat(64);
        containers.set(id, { name, labels, running: false });
        return id;
      };
      if (first === undefined) {
        first = { response, make };
        return;
      }
      if (creations === 0) {
        const id = first.make();
        if (answersLate) first.response.writeHead(201).end(JSON.stringify({ Id: id }));
      }
      if ([...containers.values()].some((other) => other.name === name)) {
        return say(409, { message: `The container name "/${name}" is already in use` });
      }
      return say(201, { Id: make() });
    }
    const [id, container] = [...containers].find(([key, { name }]) => key === reference || name === reference) ?? [];
    if (id === undefined || container === undefined) return say(404, { message: "No such container" });
    if (request.method === "DELETE") {
      containers.delete(id);
      return say(204, null);
    }
    if (verb === "start") container.running = true;
    say(200, {
      Id: id,
      Name: `/${container.name}`,
      State: { Running: container.running, Pid: container.running ? 4711 : 0, StartedAt: "", FinishedAt: "" },
      Config: { Image: "", Labels: container.labels, Tty: false },
      HostConfig: { NetworkMode: "none" },
    });
  });
  await new Promise<void>((resolve) => server.listen(path, resolve));
  t.teardown(async () => {
    server.closeAllConnections();
    server.close();
    await rm(directory, { recursive: true });
  });
  return { engine: new DockerEngine(path, { answerMs: 500 }), containers };
}

const SPEC = {
  ...{ id: "t".repeat(25), name: "s.1", workload: WORKLOAD, address: null, ports: [] },
  naming: { hostname: null, hosts: [], resolver: { nameservers: [], search: [], options: [] } },
} as unknown as TaskSpec<ContainerWorkload>;

for (const answersLate of [true, false]) {
  test(`a container that is made after its deadline does not reject its task: ${answersLate ? "answered late" : "never answered"}`, async (t) => {
    const { engine, containers } = await slowEngine(t, answersLate);
    const watch = new DockerWatch({ engine, clock: systemClock, log: silentLog });
    const sandboxes = { unlink: async () => {}, bind: async (id: string, pid: number) => `${id} ${pid}` };
    const runtime = new DockerRuntime({
      ...{ engine, watch, clock: systemClock, log: silentLog, environment: {} },
      node: () => ({ id: "own", name: "node1", rowId: undefined }),
      sandboxes: sandboxes as unknown as Sandboxes,
      processes: new ProcessWatch({ clock: systemClock, log: silentLog }),
    });
    t.teardown(() => runtime.close());
    await t.throwsAsync(runtime.prepare(SPEC, PREPARATION), { instanceOf: AwayError });
    t.is(await runtime.prepare(SPEC, PREPARATION), `${SPEC.id} 4711`);
    t.deepEqual(
      [...containers.values()].map(({ name, running }) => [name, running]),
      [[`s.1.${SPEC.id}.pause`, true]],
    );
  });
}
