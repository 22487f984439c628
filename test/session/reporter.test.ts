// What a node tells its leader: all once, then the difference until it is acknowledged, and nothing new as a sign of life.
import test from "ava";
import type { Report } from "../../src/cluster/protocol.ts";
import type { TaskStatus } from "../../src/cluster/schema.ts";
import { Reporter } from "../../src/session/reporter.ts";
import { VirtualClock } from "../fakes/virtual-clock.ts";

const BEAT_MS = 3000;

const status = (taskId: string, since = 0): TaskStatus => ({
  ...{ taskId, nodeId: "n", state: "running", since },
  ...{ error: null, exitCode: null, message: null, restarts: 0 },
});

/** A session whose leader answers when the test says so. */
class Link {
  readonly sent: Report[] = [];
  readonly failures: unknown[] = [];
  /** Answers the reports that wait; until then a report waits for ever, when it is not answered at once. */
  answer: (error?: Error) => void = () => {};
  isAtOnce = true;
  readonly beatMs = () => BEAT_MS;
  readonly awaited = () => this.awaitedRevision;
  awaitedRevision = Number.POSITIVE_INFINITY;

  /** Of the newest report. */
  signal: AbortSignal | undefined;

  send = async (report: Report, signal: AbortSignal): Promise<void> => {
    this.sent.push(report);
    this.signal = signal;
    if (this.isAtOnce) return;
    await new Promise<void>((resolve, reject) => {
      this.answer = (error) => (error === undefined ? resolve() : reject(error));
    });
  };

  failed = (error: unknown): void => void this.failures.push(error);

  /** The task ids of each report since the last call: those with a status, and those that are gone. */
  take(): string[] {
    return this.sent.splice(0).map(({ statuses, gone, full }) => {
      const ids = [...statuses.map(({ taskId, since }) => taskId + since), ...gone.map((id) => `-${id}`)];
      return `${full ? "all:" : ""}${ids.join()}`;
    });
  }
}

function setUp() {
  const clock = new VirtualClock();
  const reporter = new Reporter(clock);
  const link = new Link();
  return { clock, reporter, link };
}

test("no status is told before all are known; then all are, and after that what changed", async (t) => {
  const { clock, reporter, link } = setUp();
  reporter.put(status("a"));
  reporter.attach(link);
  reporter.put(status("b"));
  await clock.advance(0);
  t.deepEqual(link.take(), [""]);
  reporter.complete();
  await clock.advance(0);
  t.deepEqual(link.take(), ["all:a0,b0"]);
  reporter.put(status("b", 5));
  await clock.advance(0);
  reporter.remove("a");
  reporter.remove("never there");
  await clock.advance(0);
  t.deepEqual(link.take(), ["b5", "-a"]);
});

test("without news a report says nothing, once a beat", async (t) => {
  const { clock, reporter, link } = setUp();
  reporter.attach(link);
  for (let i = 0; i < 100; i++) reporter.put(status(`t${i}`));
  reporter.complete();
  reporter.setObservations({ docker: true });
  reporter.setApplied(7);
  await clock.advance(0);
  link.take();
  reporter.setObservations({ docker: true });
  reporter.setApplied(7);
  await clock.advance(10 * BEAT_MS);
  t.is(link.sent.length, 10);
  for (const { statuses, gone, full, applied, docker } of link.sent)
    t.deepEqual(
      { statuses, gone, full, applied, docker },
      { statuses: [], gone: [], full: false, applied: 7, docker: true },
    );
  t.deepEqual(
    link.sent.map(({ seq }, i) => seq - link.sent[0]!.seq === i),
    link.sent.map(() => true),
  );
});

test("what comes up while a report is under way goes with the next, as it is then", async (t) => {
  const { clock, reporter, link } = setUp();
  reporter.attach(link);
  reporter.complete();
  await clock.advance(0);
  link.take();
  link.isAtOnce = false;
  reporter.put(status("a", 1));
  reporter.put(status("a", 2));
  reporter.put(status("b", 1));
  reporter.put(status("b", 2));
  reporter.remove("b");
  await clock.advance(0);
  t.deepEqual(link.take(), ["a1"]);
  link.answer();
  await clock.advance(0);
  t.deepEqual(link.take(), ["a2,-b"]);
  link.answer();
  await clock.advance(0);
  t.deepEqual(link.take(), []);
});

test("a report that failed is sent again, with what has changed since", async (t) => {
  const { clock, reporter, link } = setUp();
  reporter.attach(link);
  reporter.put(status("a"));
  reporter.complete();
  await clock.advance(0);
  link.take();
  link.isAtOnce = false;
  reporter.put(status("a", 1));
  reporter.put(status("b", 1));
  link.answer(new Error("lost"));
  await clock.advance(0);
  t.is(link.failures.length, 1);
  t.deepEqual(link.take(), ["a1"]);
  reporter.remove("a");
  await clock.advance(1000);
  link.answer();
  await clock.advance(0);
  t.deepEqual(link.take().join().split(",").toSorted(), ["-a", "b1"]);
});

test("a new session is told all again, and does not wait for a report of the one before", async (t) => {
  const { clock, reporter, link } = setUp();
  link.isAtOnce = false;
  reporter.attach(link);
  reporter.put(status("a"));
  reporter.complete();
  reporter.setApplied(9);
  const next = new Link();
  t.false(link.signal!.aborted);
  reporter.attach(next);
  t.true(link.signal!.aborted, "the report under way ends with its session");
  await clock.advance(0);
  t.deepEqual(
    next.sent.map(({ full, applied }) => [full, applied]),
    [[true, 0]],
  );
  t.deepEqual(next.take(), ["all:a0"]);
  link.answer(new Error("the session is over"));
  await clock.advance(0);
  t.deepEqual(link.failures, []);
});

test("revisions that come in quick succession are told of together, the first and news at once", async (t) => {
  const { clock, reporter, link } = setUp();
  reporter.attach(link);
  reporter.complete();
  await clock.advance(1000);
  link.take();
  const appliedOf = () => link.sent.splice(0).map(({ applied }) => applied);
  reporter.setApplied(1);
  await clock.advance(0);
  t.deepEqual(appliedOf(), [1], "a single change is told at once");
  for (let revision = 2; revision <= 100; revision++) {
    reporter.setApplied(revision);
    await clock.advance(1);
  }
  const told = appliedOf();
  t.true(told.length <= 6, `${told.length} reports in 99 ms`);
  await clock.advance(20);
  t.is([...told, ...appliedOf()].at(-1), 100, "the last one is told too");
  reporter.setApplied(101);
  await clock.advance(30);
  reporter.setApplied(102);
  await clock.advance(0);
  reporter.setApplied(103);
  reporter.put(status("a"));
  await clock.advance(0);
  t.deepEqual(appliedOf(), [101, 102, 103], "a status does not wait");
});

test("a revision that no client waits for is told a second after the last one, or with the next beat, and at once when one waits", async (t) => {
  const { clock, reporter, link } = setUp();
  link.awaitedRevision = 0;
  reporter.attach(link);
  reporter.complete();
  await clock.advance(2000);
  link.take();
  const appliedOf = () => link.sent.splice(0).map(({ applied }) => applied);
  reporter.setApplied(1);
  await clock.advance(0);
  t.deepEqual(appliedOf(), [1], "a single change is told at once");
  for (let revision = 2; revision <= 11; revision++) {
    await clock.advance(50);
    reporter.setApplied(revision);
  }
  t.deepEqual(appliedOf(), []);
  link.awaitedRevision = 11;
  reporter.awaitedChanged();
  await clock.advance(0);
  t.deepEqual(appliedOf(), [11], "a client waits");
  reporter.setApplied(12);
  await clock.advance(999);
  t.deepEqual(appliedOf(), []);
  await clock.advance(1);
  t.deepEqual(appliedOf(), [12]);
});

test("a node whose leader is to hear of it often tells no later than that", async (t) => {
  const { clock, reporter, link } = setUp();
  link.awaitedRevision = 0;
  const often = { ...link, beatMs: () => 100 };
  reporter.attach(often);
  reporter.complete();
  await clock.advance(0);
  reporter.setApplied(1);
  await clock.advance(0);
  link.take();
  for (let revision = 2; revision <= 21; revision++) {
    reporter.setApplied(revision);
    await clock.advance(10);
  }
  t.is(link.sent.length, 2, "reports in 200 ms");
});
