// Turns between clients: greedy ones beside one that asks little.
import test from "ava";
import { FairQueue, type FairQueueLimits } from "../../src/dns/fair-queue.ts";
import { Shares } from "../../src/dns/shares.ts";
import { VirtualClock } from "../fakes/virtual-clock.ts";

const LIMITS: FairQueueLimits = {
  underWay: 64,
  underWayPerClient: 32,
  waiting: 100,
  waitingPerClient: 40,
  startedPerSecondAndClient: 1000,
};
const PATIENCE_MS = 4000;
const MODEST = 99;

/** Questions that end when the test says so, in the order in which they started. */
function running(limits: Partial<FairQueueLimits> = {}) {
  const clock = new VirtualClock();
  const queue = new FairQueue(clock, { ...LIMITS, ...limits }, 1);
  const started: { client: number; end: () => void }[] = [];
  const ask = (client: number): Promise<string | undefined> =>
    queue.run(client, PATIENCE_MS, () => new Promise((end) => started.push({ client, end: () => end("answer") })));
  const askOften = (client: number, times: number) => Array.from({ length: times }, () => ask(client));
  return { clock, queue, started, ask, askOften };
}

test("greedy clients leave places: a modest one starts at once", (t) => {
  const { started, ask, askOften } = running();
  for (let client = 0; client < 5; client++) askOften(client, 40);
  t.true(started.length < LIMITS.underWay);
  void ask(MODEST);
  t.is(started.at(-1)?.client, MODEST);
});

test("when every place is taken, the next that is free goes to the client that has none", async (t) => {
  const { clock, started, ask, askOften } = running({ underWay: 4, underWayPerClient: 4 });
  for (let client = 0; client < 4; client++) askOften(client, 10); // 2, 1, 1, and the last waits
  t.deepEqual(
    started.map(({ client }) => client),
    [0, 0, 1, 2],
  );
  void ask(MODEST);
  started[0]!.end();
  await clock.advance(0);
  t.is(started.at(-1)?.client, 3);
  started[1]!.end();
  await clock.advance(0);
  t.is(started.at(-1)?.client, MODEST);
});

test("clients that wait take turns, a question each", async (t) => {
  const { clock, started, askOften } = running({ startedPerSecondAndClient: 2 });
  for (const client of [1, 2, 3]) askOften(client, 4);
  t.is(started.length, 6);
  await clock.advance(1000);
  t.deepEqual(
    started.slice(6).map(({ client }) => client),
    [1, 2, 3, 1, 2, 3],
  );
});

test("a client's questions start in the order in which they came, so many a second", async (t) => {
  const { clock, started, ask, askOften } = running({ startedPerSecondAndClient: 3 });
  askOften(1, 7);
  t.is(started.length, 3);
  for (const { end } of started) end();
  await clock.advance(999);
  t.is(started.length, 3);
  void ask(2);
  t.is(started.length, 4);
  await clock.advance(1);
  t.is(started.length, 7);
});

test("a client that waits for too much is turned away at once, and others find a place to wait", async (t) => {
  const { clock, queue, started, ask, askOften } = running({ underWay: 1 });
  void ask(0);
  const greedy = askOften(1, 41);
  await clock.advance(0);
  t.is(await greedy.at(-1), undefined);
  t.like(queue.stats(), { waited: 40, limited: 1 });
  void ask(MODEST);
  started[0]!.end();
  await clock.advance(0);
  started[1]!.end();
  await clock.advance(0);
  t.deepEqual(
    started.map(({ client }) => client),
    [0, 1, MODEST],
  );
});

test("what has no turn in time is told so, and its place goes to the next", async (t) => {
  const { clock, queue, started, ask } = running({ underWay: 1 });
  void ask(1);
  const late = ask(2);
  await clock.advance(PATIENCE_MS - 1);
  const next = ask(3);
  await clock.advance(1);
  t.is(await late, undefined);
  t.like(queue.stats(), { waited: 2, limited: 1 });
  started[0]!.end();
  await clock.advance(0);
  started[1]!.end();
  t.is(await next, "answer");
  t.is(started.length, 2);
});

test("a question that fails gives its place back", async (t) => {
  const { queue, ask, started, clock } = running({ underWay: 1 });
  await t.throwsAsync(queue.run(1, PATIENCE_MS, () => Promise.reject(new Error("no descriptor left"))));
  void ask(2);
  await clock.advance(0);
  t.is(started.length, 1);
});

test("of places that are shared, n greedy clients leave one part of n + 1", (t) => {
  for (const clients of [1, 3, 7]) {
    const shares = new Shares(240, 240);
    for (let turn = 0; turn < 240; turn++) {
      for (let client = 0; client < clients; client++) if (shares.hasRoomFor(client)) shares.take(client);
    }
    const each = 240 / (clients + 1);
    t.deepEqual(
      Array.from({ length: clients }, (_, client) => shares.of(client)),
      Array<number>(clients).fill(each),
    );
    t.true(shares.hasRoomFor(MODEST));
  }
});
