// What is to happen, in the order of its time: a binary heap.

export interface Event {
  /** Virtual milliseconds. */
  at: number;
  happen: () => Promise<void>;
}

export class EventQueue {
  // BOUNDED: by two events a node and the changes under way.
  readonly #heap: Event[] = [];

  /** When the next event is; Infinity when there is none. */
  get nextAt(): number {
    return this.#heap[0]?.at ?? Infinity;
  }

  add(event: Event): void {
    const heap = this.#heap;
    let i = heap.push(event) - 1;
    while (i > 0) {
      const parent = (i - 1) >> 1;
      if (heap[parent]!.at <= event.at) break;
      heap[i] = heap[parent]!;
      i = parent;
    }
    heap[i] = event;
  }

  /** Takes all events up to `time`, the earliest first. */
  takeUntil(time: number): Event[] {
    const taken: Event[] = [];
    while (this.#heap.length > 0 && this.nextAt <= time) taken.push(this.#take());
    return taken;
  }

  #take(): Event {
    const heap = this.#heap;
    const first = heap[0]!;
    const last = heap.pop()!;
    if (heap.length === 0) return first;
    let i = 0;
    for (;;) {
      let child = 2 * i + 1;
      if (child + 1 < heap.length && heap[child + 1]!.at < heap[child]!.at) child++;
      if (child >= heap.length || heap[child]!.at >= last.at) break;
      heap[i] = heap[child]!;
      i = child;
    }
    heap[i] = last;
    return first;
  }
}
