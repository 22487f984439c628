// Lines of beats, however they are cut into pieces, and lines that are none.
import { PassThrough } from "node:stream";
import test from "ava";
import { takeBeats } from "../../src/leader/beats.ts";

test("the newest beat of each piece is taken, also when a line comes in pieces", async (t) => {
  const lines = new PassThrough();
  const taken: number[] = [];
  const over = takeBeats(lines, (applied) => taken.push(applied));
  for (const piece of ["7\n", "8\n9\n1", "0", "1\n"]) {
    lines.write(piece);
    await new Promise((resolve) => setImmediate(resolve));
  }
  lines.end();
  await over;
  t.deepEqual(taken, [7, 9, 101]);
});

for (const wrong of ["seven\n", "\n", "-1\n", "1e3\n", "9".repeat(40)]) {
  test(`${JSON.stringify(wrong)} is no beat`, async (t) => {
    const lines = new PassThrough();
    const over = takeBeats(lines, () => t.fail());
    lines.write(wrong);
    const { message } = (await t.throwsAsync(over))!;
    t.regex(message, /^a beat is the number of a revision, and no '/);
    t.true(lines.destroyed);
  });
}

test("a leader that refuses a beat ends the rest", async (t) => {
  const lines = new PassThrough();
  const over = takeBeats(lines, () => {
    throw new Error("the session is over");
  });
  lines.write("1\n");
  await t.throwsAsync(over, { message: "the session is over" });
});
