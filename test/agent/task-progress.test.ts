// How far tasks are: asked of their nodes while a client asks, and no more often than it is read.
import { PassThrough, Readable } from "node:stream";
import test from "ava";
import { TaskProgress } from "../../src/agent/task-progress.ts";
import { VirtualClock } from "../fakes/virtual-clock.ts";

function setUp(read: (id: string) => Promise<Readable>) {
  const clock = new VirtualClock();
  const asked: string[] = [];
  const progress = new TaskProgress({
    clock,
    read: (id, query) => {
      asked.push(`${id} ${query.progress}`);
      return read(id);
    },
  });
  return { clock, asked, progress };
}

test("a client that asks often has what the node said last, which is asked once a second", async (t) => {
  let megabytes = 0;
  const { clock, asked, progress } = setUp(async (id) => Readable.from([Buffer.from(`${id}: ${++megabytes} MB`)]));
  t.deepEqual(progress.of(["a"]), new Map());
  await clock.advance(200);
  t.deepEqual(progress.of(["a"]), new Map([["a", "a: 1 MB"]]));
  for (let i = 0; i < 20; i++) {
    await clock.advance(200);
    progress.of(["a"]);
  }
  t.is(asked.length, 5);
  t.true(asked.every((question) => question === "a true"));
  await clock.advance(20_000);
  t.is(asked.length, 5);
});

test("a node that cannot be asked, says nothing or hangs is told nothing of, and asked again", async (t) => {
  const hanging = new PassThrough();
  const answers = [
    async () => Promise.reject(new Error("no session")),
    async () => Readable.from([]),
    async () => hanging,
  ];
  const { clock, asked, progress } = setUp(() =>
    (answers.shift() ?? (async () => Readable.from([Buffer.from("late")])))(),
  );
  for (let i = 0; i < 3; i++) {
    t.deepEqual(progress.of(["a"]), new Map());
    await clock.advance(1000);
  }
  for (let i = 0; i < 9; i++) {
    progress.of(["a"]);
    await clock.advance(1000);
  }
  t.is(asked.length, 3);
  await clock.advance(1000);
  t.true(hanging.destroyed);
  progress.of(["a"]);
  await clock.advance(100);
  t.deepEqual(progress.of(["a"]), new Map([["a", "late"]]));
});
