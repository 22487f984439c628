// Tests that load programs into the kernel.
import test, { type ExecutionContext } from "ava";
import type { LaneEntry } from "../../src/express/entry.ts";
import { LaneRig } from "./lane-rig.ts";

const isRoot = process.getuid?.() === 0;

/** Without root it is skipped, and says so. */
export function bpfTest(title: string, run: (t: ExecutionContext) => void | Promise<void>): void {
  if (isRoot) test(title, run);
  else test.skip(`${title} (skipped: needs root)`, run);
}

/** A rig that ends with the test, with these entries. */
export function useRig(t: ExecutionContext, ...entries: LaneEntry[]): LaneRig {
  const rig = new LaneRig();
  t.teardown(() => rig.close());
  for (const entry of entries) rig.enter(entry);
  return rig;
}
