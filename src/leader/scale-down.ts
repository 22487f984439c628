// Which tasks of a service go when it has too many: those that do not run first, then one from the node with most of
// them, then the highest slot.
import type { Task } from "../cluster/schema.ts";

type NodeId = Task["nodeId"];

/**
 * Chooses `count` slots, the first to go first. `slots` has the tasks of each; several share one while a node that came
 * back takes its place again. Each choice looks at one slot of each node, not at all slots.
 */
export function slotsToRemove(
  slots: ReadonlyMap<number, readonly Task[]>,
  count: number,
  isRunning: (task: Task) => boolean,
): number[] {
  const perNode = new Map<NodeId, number>();
  for (const tasks of slots.values()) for (const { nodeId } of tasks) add(perNode, nodeId, 1);
  const idle: number[] = [];
  const running: number[] = [];
  for (const [slot, tasks] of slots) (tasks.some(isRunning) ? running : idle).push(slot);
  const chosen: number[] = [];
  for (const candidates of [new Candidates(idle, slots), new Candidates(running, slots)]) {
    while (chosen.length < count) {
      const slot = candidates.take(perNode);
      if (slot === undefined) break;
      for (const { nodeId } of slots.get(slot)!) add(perNode, nodeId, -1);
      chosen.push(slot);
    }
  }
  return chosen;
}

/** Slots that are taken one after the other: each time the highest of the node with most tasks. */
class Candidates {
  readonly #slots: ReadonlyMap<number, readonly Task[]>;
  /** Slots with one task, by its node, the highest last. */
  readonly #byNode = new Map<NodeId, number[]>();
  /** Slots that several tasks share. */
  readonly #shared = new Set<number>();

  constructor(numbers: readonly number[], slots: ReadonlyMap<number, readonly Task[]>) {
    this.#slots = slots;
    for (const slot of numbers.toSorted((a, b) => a - b)) {
      const [first, ...others] = slots.get(slot)!;
      if (others.length > 0) this.#shared.add(slot);
      else {
        const own = this.#byNode.get(first!.nodeId);
        if (own === undefined) this.#byNode.set(first!.nodeId, [slot]);
        else own.push(slot);
      }
    }
  }

  take(perNode: ReadonlyMap<NodeId, number>): number | undefined {
    let best: { slot: number; load: number } | undefined;
    const consider = (slot: number) => {
      const load = Math.max(...this.#slots.get(slot)!.map(({ nodeId }) => perNode.get(nodeId)!));
      if (best === undefined || load > best.load || (load === best.load && slot > best.slot)) best = { slot, load };
    };
    for (const own of this.#byNode.values()) if (own.length > 0) consider(own.at(-1)!);
    for (const slot of this.#shared) consider(slot);
    if (best === undefined) return undefined;
    const { slot } = best as { slot: number };
    if (!this.#shared.delete(slot)) this.#byNode.get(this.#slots.get(slot)![0]!.nodeId)!.pop();
    return slot;
  }
}

function add(counts: Map<NodeId, number>, key: NodeId, more: number): void {
  counts.set(key, (counts.get(key) ?? 0) + more);
}
