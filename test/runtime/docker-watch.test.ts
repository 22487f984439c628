// An engine that comes and goes, under a virtual clock.
import test from "ava";
import { silentLog } from "../../src/lib/log.ts";
import { type ContainerEvent, DockerError } from "../../src/runtime/docker-engine.ts";
import { DockerWatch } from "../../src/runtime/docker-watch.ts";
import { AwayError } from "../../src/runtime/runtime.ts";
import { VirtualClock } from "../fakes/virtual-clock.ts";

/** Answers while `isThere`; a stream of its ends when a test says so. */
class FakeEngine {
  readonly socketPath = "/run/fake.sock";
  isThere = false;
  tries = 0;
  end: () => void = () => {};
  tell: (event: ContainerEvent) => void = () => {};

  follow(signal: AbortSignal, onOpen: () => void, onEvent: (event: ContainerEvent) => void): Promise<void> {
    this.tries++;
    if (!this.isThere) return Promise.reject(new DockerError("docker events", new Error("connect ENOENT")));
    this.tell = onEvent;
    const ended = new Promise<void>((resolve) => {
      this.end = resolve;
      signal.addEventListener("abort", () => resolve());
    });
    onOpen();
    return ended;
  }
}

function setUp() {
  const clock = new VirtualClock();
  const engine = new FakeEngine();
  const watch = new DockerWatch({ engine, clock, log: silentLog });
  const seen: string[] = [];
  watch.listen({ opened: () => seen.push("opened"), happened: ({ action }) => seen.push(action) });
  watch.start();
  return { clock, engine, watch, seen };
}

const unanswered = () => Promise.reject(new DockerError("docker ps", new Error("connect ENOENT")));

test("it is tried again every second, and listeners hear of it when it is there and what happens then", async (t) => {
  const { clock, engine, watch, seen } = setUp();
  await clock.advance(3500);
  t.is(engine.tries, 4);
  t.false(watch.isUp);
  engine.isThere = true;
  await clock.advance(1000);
  t.true(watch.isUp);
  engine.tell({ id: "c", action: "die", attributes: {} });
  t.deepEqual(seen, ["opened", "die"]);
  watch.listen({ opened: () => seen.push("late"), happened: () => {} });
  t.is(seen.at(-1), "late");
  await watch.stop();
});

test("who finds it away is told when it is back", async (t) => {
  const { clock, engine, watch, seen } = setUp();
  engine.isThere = true;
  await clock.advance(1000);
  engine.isThere = false;
  engine.end();
  await clock.advance(0);
  t.false(watch.isUp);
  const error = await t.throwsAsync(watch.guard(unanswered), { instanceOf: AwayError });
  t.is(error?.message, "Docker does not answer on /run/fake.sock: connect ENOENT");
  let isBack = false;
  void (error as AwayError).back.then(() => {
    isBack = true;
  });
  await clock.advance(2000);
  t.false(isBack);
  engine.isThere = true;
  await clock.advance(1000);
  t.true(isBack);
  t.deepEqual(seen, ["opened", "opened"]);
  await watch.stop();
});

test("who finds it away before the stream has ended is told as well", async (t) => {
  const { clock, engine, watch } = setUp();
  engine.isThere = true;
  await clock.advance(1000);
  const error = await t.throwsAsync(watch.guard(unanswered), { instanceOf: AwayError });
  engine.end();
  await clock.advance(1000);
  await t.notThrowsAsync((error as AwayError).back);
  await watch.stop();
});

test("what the engine refuses is passed on as it is", async (t) => {
  const { watch } = setUp();
  const refusal = new DockerError("docker start", { statusCode: 404, json: { message: "no such image" } });
  t.is(await t.throwsAsync(watch.guard(() => Promise.reject(refusal))), refusal);
  t.is(refusal.message, "docker start: no such image");
  await watch.stop();
});
