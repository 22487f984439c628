// Tests that load programs into the kernel.
import { release } from "node:os";
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

/** Whether a program can be run on a frame with the sum that a network card has made of it. Linux 6.11. */
export function takesCardsSum(): boolean {
  const [major, minor] = release().split(".").map(Number);
  return major! > 6 || (major === 6 && minor! >= 11);
}
