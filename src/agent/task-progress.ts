// How far tasks are that are being prepared, on any node: asked of their nodes when a client asks here, and at most once a
// second each. It changes too often to be a part of the cluster's state.
import type { Readable } from "node:stream";
import { text } from "node:stream/consumers";
import type { LogQuery } from "../cluster/protocol.ts";
import type { Clock } from "../lib/clock.ts";

const REFRESH_MS = 1000;
/** An answer that takes longer is given up, and one that no client asks for is forgotten. */
const FORGET_MS = 10_000;
/** With more tasks than this no client shows how far each is. */
const MOST_ASKED = 20;
const QUERY: LogQuery = { follow: false, tail: null, since: null, progress: true };

interface TaskProgressOptions {
  clock: Clock;
  /** See TaskLogs. */
  read(taskId: string, query: LogQuery): Promise<Readable>;
}

interface Answer {
  /** Empty: the task's node has not said anything yet. */
  text: string;
  /** When a client asked last, and when the task's node was asked. */
  wantedAt: number;
  askedAt: number;
  isAsking: boolean;
}

export class TaskProgress {
  readonly #options: TaskProgressOptions;
  // BOUNDED: by the tasks that clients asked for in the last FORGET_MS; keyed by task id.
  readonly #answers = new Map<string, Answer>();

  constructor(options: TaskProgressOptions) {
    this.#options = options;
  }

  /** What is known now, by task id. What the nodes answer to this is there at the next call. */
  of(taskIds: readonly string[]): ReadonlyMap<string, string> {
    const now = this.#options.clock.monotonic();
    const progress = new Map<string, string>();
    for (const id of taskIds.slice(0, MOST_ASKED)) {
      const answer = this.#answers.get(id) ?? { text: "", wantedAt: now, askedAt: -REFRESH_MS, isAsking: false };
      answer.wantedAt = now;
      this.#answers.set(id, answer);
      if (answer.text !== "") progress.set(id, answer.text);
      if (!answer.isAsking && now - answer.askedAt >= REFRESH_MS) void this.#ask(id, answer);
    }
    for (const [id, { wantedAt, isAsking }] of this.#answers)
      if (!isAsking && now - wantedAt > FORGET_MS) this.#answers.delete(id);
    return progress;
  }

  async #ask(id: string, answer: Answer): Promise<void> {
    const { clock, read } = this.#options;
    answer.isAsking = true;
    answer.askedAt = clock.monotonic();
    try {
      const bytes = await read(id, QUERY);
      const deadline = clock.after(FORGET_MS, () => bytes.destroy(new Error("the node does not answer")));
      answer.text = await text(bytes).finally(() => deadline.cancel());
    } catch {
      answer.text = ""; // the task's state says what can be said
    }
    answer.isAsking = false;
  }
}
