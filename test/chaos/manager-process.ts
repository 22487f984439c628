// A manager of the chaos runs, as the process that asks it sees it.
import { type ChildProcess, fork } from "node:child_process";
import { once } from "node:events";
import { setTimeout as delay } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import type { ManagerArguments, Reply, Request } from "./manager.ts";

const PROGRAM = fileURLToPath(new URL("./manager.js", import.meta.url));
/** After this time without an answer a client takes the outcome for unknown. */
const ANSWER_MS = 2500;

export class ManagerProcess {
  readonly #child: ChildProcess;
  // BOUNDED: by what clients ask while it is frozen; keyed by request id.
  readonly #asked = new Map<number, (reply: Reply) => void>();
  #requests = 0;

  constructor(words: ManagerArguments) {
    this.#child = fork(PROGRAM, [JSON.stringify(words)]);
    this.#child.on("message", (reply: Reply) => {
      this.#asked.get(reply.id)?.(reply);
      this.#asked.delete(reply.id);
    });
    this.#child.once("exit", () => {
      for (const [id, answered] of this.#asked) answered({ id, outcome: "unknown" });
    });
    this.#child.on("error", () => {}); // a message to one that was killed
  }

  /**
   * Adds `write`, or reads all. Resolves with the outcome as far as a client waits for it; `record` also gets an answer that
   * comes later.
   */
  async ask(write: string | undefined, record: (reply: Reply) => void): Promise<Reply["outcome"]> {
    if (this.#isGone || !this.#child.connected) return "unknown";
    const id = ++this.#requests;
    const request: Request = { id, ...(write === undefined ? {} : { write }) };
    const patience = new AbortController();
    const answer = new Promise<Reply["outcome"]>((resolve) => {
      this.#asked.set(id, (reply) => {
        record(reply);
        resolve(reply.outcome);
      });
      this.#child.send(request, (error) => error && resolve("unknown"));
    });
    const given = delay(ANSWER_MS, "unknown" as const, { signal: patience.signal }).catch(() => "unknown" as const);
    return Promise.race([answer, given]).finally(() => patience.abort());
  }

  signal(signal: NodeJS.Signals): void {
    this.#child.kill(signal);
  }

  /** Resolves when it has exited. */
  async end(signal: NodeJS.Signals): Promise<void> {
    if (this.#isGone) return;
    const exited = once(this.#child, "exit");
    this.#child.kill(signal);
    await exited;
  }

  get #isGone(): boolean {
    return this.#child.exitCode !== null || this.#child.signalCode !== null;
  }
}
