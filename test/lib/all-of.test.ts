// Steps that must all be tried go on past what fails.
import test from "ava";
import { allOf } from "../../src/lib/all-of.ts";

function failing(message: string): () => Promise<never> {
  return async () => {
    throw new Error(message);
  };
}

test("a step that fails stops none after it, and is told in the end", async (t) => {
  const done: number[] = [];
  const step = (number: number) => async () => void done.push(number);
  const error = new Error("a bad disk");
  t.is(await t.throwsAsync(allOf([step(1), () => Promise.reject(error), step(2)])), error);
  t.deepEqual(done, [1, 2]);
  await t.throwsAsync(allOf([failing("a"), step(3), failing("b")]), { message: "a; b" });
  await t.notThrowsAsync(allOf([step(4)]));
  t.deepEqual(done, [1, 2, 3, 4]);
});
