// Steps that must all be tried.
import { messageOf } from "./errors.ts";

/** Does all steps, one after the other, also after a failure. Throws the failures as one error. */
export async function allOf(steps: readonly (() => Promise<unknown> | unknown)[]): Promise<void> {
  const failures: unknown[] = [];
  for (const step of steps) {
    try {
      await step();
    } catch (error) {
      failures.push(error);
    }
  }
  if (failures.length === 1) throw failures[0];
  if (failures.length > 1) throw new Error(failures.map(messageOf).join("; "), { cause: failures[0] });
}
