// What a file's tests leave behind is undone after them: the last thing first, and all of it, whatever fails.
import test from "ava";
import { allOf } from "../../src/lib/all-of.ts";

type Step = () => Promise<unknown> | unknown;

/** BOUNDED: by the hooks of one test file, which has a process of its own. */
const steps: Step[] = [];

/** Runs `step` after the file's tests, also when they fail. Ava would run several hooks side by side. */
export function undoAfterAll(step: Step): void {
  if (steps.length === 0) test.serial.after.always("undo", () => allOf(steps.reverse()));
  steps.push(step);
}
