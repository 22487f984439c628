// A runtime without processes: a test decides when a task ends, and what cannot be done.
import type { Readable } from "node:stream";
import type { Workload } from "../../src/cluster/workload.ts";
import type { Exit, Preparation, Running, TaskId, TaskSpec } from "../../src/runtime/runtime.ts";
import type { AnyRuntime } from "../../src/runtime/runtimes.ts";

interface FakeTask {
  running: Running;
  end(exit: Exit): void;
}

export class FakeRuntime implements AnyRuntime {
  /** What was called, in order: "start ID". */
  readonly calls: string[] = [];
  readonly tasks = new Map<string, FakeTask>();
  /** What the next call of that name throws, once. */
  readonly failures = new Map<"prepare" | "start" | "remove" | "adopt", Error>();
  /** Of the tasks that start from now. */
  ready: Promise<void> | null = null;
  /** What prepare says that it does, one after the other. */
  progress: string[] = [];
  /** Prepare takes until this resolves. */
  prepared: Promise<void> | undefined;
  readonly #now: () => number;

  constructor(now: () => number) {
    this.#now = now;
  }

  async prepare({ id }: TaskSpec<Workload | null>, { progress }: Preparation): Promise<string> {
    this.#call("prepare", id);
    for (const message of this.progress) progress(message);
    await this.prepared;
    return `ovl-${id}`;
  }

  async start({ id }: TaskSpec<Workload | null>): Promise<Running> {
    this.#call("start", id);
    return this.run(id);
  }

  /** As if it had been started before. */
  run(id: string): Running {
    const { promise, resolve } = promiseOf<Exit>();
    const end = (exit: Exit) => {
      this.tasks.delete(id);
      resolve(exit);
    };
    const stop = async () => {
      this.calls.push(`stop ${id}`);
      end({ exitCode: 143, error: "killed by SIGTERM" });
    };
    const running = { startedAt: this.#now(), ready: this.ready, exited: promise, stop };
    this.tasks.set(id, { running, end });
    return running;
  }

  async adopt({ id }: TaskId): Promise<Running | undefined> {
    this.#fail("adopt");
    return this.tasks.get(id)?.running;
  }

  async remove({ id }: TaskId): Promise<void> {
    this.#call("remove", id);
  }

  async prune(keep: () => Iterable<string>): Promise<void> {
    const kept = new Set(keep());
    for (const id of this.tasks.keys()) if (!kept.has(id)) this.calls.push(`prune ${id}`);
  }

  async logs(): Promise<Readable | undefined> {
    return undefined;
  }

  close(): void {
    this.calls.push("close");
  }

  #call(name: "prepare" | "start" | "remove", id: string): void {
    this.calls.push(`${name} ${id}`);
    this.#fail(name);
  }

  #fail(name: "prepare" | "start" | "remove" | "adopt"): void {
    const failure = this.failures.get(name);
    this.failures.delete(name);
    if (failure !== undefined) throw failure;
  }
}

function promiseOf<T>(): { promise: Promise<T>; resolve: (value: T) => void } {
  let resolve: (value: T) => void = () => {};
  const promise = new Promise<T>((done) => {
    resolve = done;
  });
  return { promise, resolve };
}
