// Tests that load programs into the kernel.
import type { ExecutionContext } from "ava";
import type { LaneEntry } from "../../src/express/entry.ts";
import { LaneRig } from "./lane-rig.ts";

export { bpfTest } from "../fakes/bpf-test.ts";

/** A rig that ends with the test, with these entries. */
export function useRig(t: ExecutionContext, ...entries: LaneEntry[]): LaneRig {
  const rig = new LaneRig();
  t.teardown(() => rig.close());
  for (const entry of entries) rig.enter(entry);
  return rig;
}
