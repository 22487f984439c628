// Which commands wait for each other before they are committed.
import test from "ava";
import { Gathering } from "../../src/leader/gathering.ts";
import { VirtualClock } from "../fakes/virtual-clock.ts";

/** A turn that has taken `count` commands and answers them; `more` come while it is under way. */
function turn(gathering: Gathering, count: number, more = 0): void {
  for (let i = 0; i < count; i++) gathering.queued();
  for (let i = 0; i < count; i++) gathering.taken();
  for (let i = 0; i < more; i++) gathering.queued();
  gathering.answered(count);
}

test("a command waits for the callers who were answered a moment ago, and no longer than until they have come", async (t) => {
  const gathering = new Gathering(new VirtualClock());
  turn(gathering, 2, 2);
  let isOver = false;
  const wait = gathering.wait()!.then(() => {
    isOver = true;
  });
  gathering.queued();
  await Promise.resolve();
  t.false(isOver);
  gathering.queued();
  await wait;
  t.true(isOver);
});

test("callers who do not come back are waited for once, and for two milliseconds", async (t) => {
  const clock = new VirtualClock();
  const gathering = new Gathering(clock);
  turn(gathering, 3, 1);
  let isOver = false;
  const wait = gathering.wait()!.then(() => {
    isOver = true;
  });
  await clock.advance(1);
  t.false(isOver);
  await clock.advance(1);
  await wait;
  gathering.taken();
  gathering.answered(1);
  gathering.queued();
  t.is(gathering.wait(), undefined, "one caller was left");
});

const AT_ONCE: [title: string, prepare: (gathering: Gathering, clock: VirtualClock) => unknown][] = [
  ["the first command", (gathering) => gathering.queued()],
  [
    "the command of a caller who is alone",
    (gathering) => {
      turn(gathering, 1);
      gathering.queued();
    },
  ],
  ["what is no command, though callers were answered", (gathering) => turn(gathering, 4)],
  [
    "as many commands as were answered",
    (gathering) => {
      turn(gathering, 2);
      gathering.queued();
      gathering.queued();
    },
  ],
  [
    "a command that comes later",
    async (gathering, clock) => {
      turn(gathering, 4);
      await clock.advance(2);
      gathering.queued();
    },
  ],
];
for (const [title, prepare] of AT_ONCE) {
  test(`nothing is waited for: ${title}`, async (t) => {
    const clock = new VirtualClock();
    const gathering = new Gathering(clock);
    await prepare(gathering, clock);
    t.is(gathering.wait(), undefined);
  });
}
