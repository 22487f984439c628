// Steps of a cluster's life that random histories are made of, and how each is taken.
import fc from "fast-check";
import type { TaskState } from "../../src/cluster/schema.ts";
import { UserError } from "../../src/lib/errors.ts";
import { type Cluster, LIVENESS_MS } from "./cluster-fixture.ts";

/** Steps that are taken in one way, whatever a test keeps of them. */
type PlainStep =
  | { kind: "lose" | "apply"; node: number }
  | { kind: "full"; full: boolean }
  | { kind: "pass"; periods: number };

export type ClusterStep =
  | PlainStep
  | { kind: "detach"; index: number }
  | { kind: "join"; node: number }
  | { kind: "report"; node: number; states: TaskState[] }
  | { kind: "restart" };

export const NODES = 4;
export const node = fc.integer({ min: 0, max: NODES - 1 });

export const joinOrApply = fc.record({
  kind: fc.constantFrom("join" as const, "apply" as const, "apply" as const),
  node,
});
export const lose = fc.record({ kind: fc.constant("lose" as const), node });
export const restart = fc.record({ kind: fc.constant("restart" as const) });
export const full = fc.record({ kind: fc.constant("full" as const), full: fc.boolean() });

export function detach(highest: number) {
  return fc.record({ kind: fc.constant("detach" as const), index: fc.nat(highest) });
}

export function report(state: fc.Arbitrary<TaskState>) {
  const states = fc.array(state, { minLength: 1, maxLength: 4 });
  return fc.record({ kind: fc.constant("report" as const), node, states });
}

/** Half periods of silence that pass, 1 to `most`. */
export function pass(most: number) {
  return fc.record({ kind: fc.constant("pass" as const), periods: fc.integer({ min: 1, max: most }) });
}

/** Work that the leader may refuse. */
export async function allowed(work: Promise<unknown>): Promise<void> {
  try {
    await work;
  } catch (error) {
    if (!(error instanceof UserError)) throw error;
  }
}

export async function takePlain({ nodes, clock, store }: Cluster, step: PlainStep): Promise<void> {
  switch (step.kind) {
    case "lose":
      return nodes[step.node]!.lose();
    case "apply":
      return nodes[step.node]!.apply();
    case "full":
      store.full = step.full;
      return;
    case "pass":
      return clock.advance((step.periods * LIVENESS_MS) / 2);
  }
}
