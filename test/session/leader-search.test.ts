// Which manager a node takes for the leader, and when it asks which.
import test from "ava";
import { MisdirectedError, UserError } from "../../src/lib/errors.ts";
import { LeaderlessError, LeaderSearch } from "../../src/session/leader-search.ts";
import { VirtualClock } from "../fakes/virtual-clock.ts";

type Answer = "leads" | "silent" | Error;

/** Managers that answer so, and what was asked of them when. */
function searching(answers: Record<string, Answer>, managers = Object.keys(answers)) {
  const clock = new VirtualClock();
  const asked: [manager: string, atMs: number][] = [];
  const aborted: string[] = [];
  const begun = clock.monotonic();
  const leads = (manager: string, signal: AbortSignal): Promise<void> => {
    asked.push([manager, clock.monotonic() - begun]);
    const answer = answers[manager]!;
    return new Promise((resolve, reject) => {
      signal.addEventListener("abort", () => {
        aborted.push(manager);
        reject(new Error("aborted"));
      });
      if (answer === "leads") resolve();
      else if (answer !== "silent") reject(answer);
    });
  };
  const search = new LeaderSearch({ transport: { leads }, clock, managers: () => managers });
  return { clock, asked, aborted, find: (signal = new AbortController().signal) => search.find(signal) };
}

test("a manager that leads is asked alone", async (t) => {
  const { find, asked, clock } = searching({ a: "leads", b: "leads" });
  t.is(await find(), "a");
  await clock.advance(1000);
  t.deepEqual(asked, [["a", 0]]);
});

test("managers that are dead cost a quarter of a second each, and are given up when another one leads", async (t) => {
  const { find, asked, aborted, clock } = searching({ a: "silent", b: "silent", c: "leads" });
  const found = find();
  await clock.advance(500);
  t.is(await found, "c");
  t.deepEqual(asked, [
    ["a", 0],
    ["b", 250],
    ["c", 500],
  ]);
  t.deepEqual(aborted.slice(0, 2), ["a", "b"]);
});

test("one that refuses costs nothing, and a standby's word is followed at once", async (t) => {
  const standby = new MisdirectedError(["c"]);
  const { find, asked } = searching({ a: new Error("ECONNREFUSED"), b: standby, c: "leads", d: "leads" }, [
    "a",
    "b",
    "d",
  ]);
  t.is(await find(), "c");
  t.deepEqual(asked, [
    ["a", 0],
    ["b", 0],
    ["c", 0],
  ]);
});

test("where none leads, each says why, and none is asked twice", async (t) => {
  const answers = {
    a: new MisdirectedError(["b"]),
    b: new MisdirectedError(["a"]),
    c: new UserError(503, "this manager is stopping"),
  };
  const { find, asked } = searching(answers);
  const error = await t.throwsAsync(find(), { instanceOf: LeaderlessError });
  t.is((error as LeaderlessError).reasons.get("c"), "this manager is stopping");
  t.regex(error!.message, /a: this manager is a standby; the leader is at b; b: .* at a; c: this manager is stopping/);
  t.is(asked.length, 3);
});

test("a search ends with its signal, and asks no more", async (t) => {
  const { find, asked, aborted, clock } = searching({ a: "silent", b: "leads" });
  const stop = new AbortController();
  const found = find(stop.signal);
  stop.abort(new Error("the agent is stopping"));
  await t.throwsAsync(found, { message: "the agent is stopping" });
  await clock.advance(1000);
  t.deepEqual(asked, [["a", 0]]);
  t.deepEqual(aborted, ["a"]);
  await t.throwsAsync(find(stop.signal), { message: "the agent is stopping" });
});

test("a node that knows of no manager says so", async (t) => {
  await t.throwsAsync(searching({}).find(), { instanceOf: LeaderlessError, message: "it knows of no manager" });
});

test("while the leader that standbys name does not answer, they are asked again: one may lead by then", async (t) => {
  const standby = new MisdirectedError(["dead"]);
  const answers: Record<string, Answer> = { a: standby, b: standby, dead: "silent" };
  const { find, clock, asked } = searching(answers, ["a", "b"]);
  const found = find();
  await clock.advance(1200);
  answers.b = "leads";
  await clock.advance(1000);
  t.is(await found, "b");
  t.is(asked.filter(([manager]) => manager === "dead").length, 1, "the one that is silent is asked once");
});
