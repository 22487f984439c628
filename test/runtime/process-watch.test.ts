// The ends of processes are noticed within a second, by the kernel's word or by a look at each.
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import test from "ava";
import { silentLog } from "../../src/lib/log.ts";
import { ProcessEnds } from "../../src/linux/process-ends.ts";
import { processIdOf } from "../../src/runtime/process-id.ts";
import { ProcessWatch } from "../../src/runtime/process-watch.ts";
import { VirtualClock } from "../fakes/virtual-clock.ts";

const SECOND_MS = 1000;
/** More than one system call tells of. */
const MANY = 150;
const NO_PIDFDS = {
  add: () => {
    throw new Error("pidfd_open: function not implemented (ENOSYS)");
  },
  remove: () => {},
  take: () => [],
};

async function sleeper(): Promise<ChildProcess> {
  const child = spawn("sleep", ["1000"]);
  await once(child, "spawn");
  return child;
}

async function kill(child: ChildProcess): Promise<void> {
  const exited = once(child, "exit");
  child.kill("SIGKILL");
  await exited;
}

const WAYS = [
  { name: "the kernel tells", ends: () => new ProcessEnds() },
  { name: "each is looked at", ends: () => undefined },
  { name: "the kernel cannot tell", ends: () => NO_PIDFDS },
];
for (const { name, ends: open } of WAYS) {
  test(`${name}: an end is called out each second until the watch is closed, and what lives is not`, async (t) => {
    const clock = new VirtualClock();
    const ends = open();
    const warnings: string[] = [];
    const log = { ...silentLog, warn: (message: string) => void warnings.push(message) };
    const watch = new ProcessWatch({ clock, log, ...(ends === undefined ? {} : { ends }) });
    const [dying, living] = [await sleeper(), await sleeper()];
    t.teardown(() => kill(living));
    let calls = 0;
    const watched = watch.watch((await processIdOf(dying.pid!))!, () => calls++);
    const other = watch.watch((await processIdOf(living.pid!))!, () => t.fail("it lives"));
    await clock.advance(3 * SECOND_MS);
    t.is(calls, 0);
    await kill(dying);
    await clock.advance(SECOND_MS);
    t.is(calls, 1);
    await clock.advance(2 * SECOND_MS);
    t.is(calls, 3);
    watched.close();
    await clock.advance(2 * SECOND_MS);
    t.is(calls, 3);
    other.close();
    t.deepEqual(warnings, ends === NO_PIDFDS ? ["ends of processes are found by a look at each once a second"] : []);
    if (ends instanceof ProcessEnds) ends.close();
  });
}

test("a process that ended before it is watched, and one whose number is another's by now, have ended", async (t) => {
  const clock = new VirtualClock();
  const ends = new ProcessEnds();
  t.teardown(() => ends.close());
  const watch = new ProcessWatch({ clock, log: silentLog, ends });
  const [gone, other] = [await sleeper(), await sleeper()];
  t.teardown(() => kill(other));
  const goneId = (await processIdOf(gone.pid!))!;
  await kill(gone);
  const called: string[] = [];
  watch.watch(goneId, () => called.push("gone"));
  watch.watch({ pid: other.pid!, startTime: "1" }, () => called.push("another's number"));
  await clock.advance(SECOND_MS);
  t.deepEqual(called, ["gone", "another's number"]);
});

test("many processes that end at once are all told of, once", async (t) => {
  const ends = new ProcessEnds();
  const children = await Promise.all(Array.from({ length: MANY }, sleeper));
  const handles = children.map(({ pid }) => ends.add(pid!));
  t.deepEqual(ends.take(), []);
  await Promise.all(children.map(kill));
  const ended = ends.take();
  t.is(ended.length, MANY);
  t.true(handles.every((handle) => ended.includes(handle)));
  t.deepEqual(ends.take(), []);
  const again = await sleeper();
  ends.close();
  await kill(again);
  t.throws(() => new ProcessEnds().add(again.pid!), { message: /^pidfd_open: no such process \(ESRCH\)/ });
});
