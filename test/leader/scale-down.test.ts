// The slots that go when a service has too many, against the rule applied to all slots for each choice.
import test from "ava";
import fc from "fast-check";
import type { Task } from "../../src/cluster/schema.ts";
import { slotsToRemove } from "../../src/leader/scale-down.ts";

function taskRow(slot: number, nodeId: string | null, i: number): Task {
  const rest = { drain: null, addresses: {}, attachment: null, error: null, createdAt: 0 };
  return { id: `t${slot}-${i}`, serviceId: "s", slot, nodeId, desired: "running", ...rest };
}

/** The rule as it is said. */
function byRule(slots: ReadonlyMap<number, Task[]>, count: number, running: ReadonlySet<string>): number[] {
  const left = new Map(slots);
  const chosen: number[] = [];
  while (chosen.length < count && left.size > 0) {
    const all = [...left.values()].flat();
    const isIdle = (slot: number) => Number(!left.get(slot)!.some(({ id }) => running.has(id)));
    const load = (slot: number) =>
      Math.max(...left.get(slot)!.map(({ nodeId }) => all.filter((task) => task.nodeId === nodeId).length));
    const [slot] = [...left.keys()].toSorted((a, b) => isIdle(b) - isIdle(a) || load(b) - load(a) || b - a);
    left.delete(slot!);
    chosen.push(slot!);
  }
  return chosen;
}

test("idle slots go first, then those of the node with most tasks, then the highest", (t) => {
  const instance = fc.record({ node: fc.constantFrom("a", "b", "c", null), isRunning: fc.boolean() });
  const groups = fc.array(fc.array(instance, { minLength: 1, maxLength: 3 }), { maxLength: 12 });
  fc.assert(
    fc.property(groups, fc.nat(12), (instances, count) => {
      const running = new Set<string>();
      const slots = new Map(
        instances.map((group, slot) => {
          const tasks = group.map(({ node }, i) => taskRow(slot + 1, node, i));
          for (const [i, { isRunning }] of group.entries()) if (isRunning) running.add(tasks[i]!.id);
          return [slot + 1, tasks];
        }),
      );
      t.deepEqual(
        slotsToRemove(slots, count, ({ id }) => running.has(id)),
        byRule(slots, count, running),
      );
    }),
  );
});
