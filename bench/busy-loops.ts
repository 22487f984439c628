// Loops at nice 0 that keep processors busy, each in a session of its own: the scheduler's autogroups give each as much
// as a whole other session.
import { type ChildProcess, spawn } from "node:child_process";

export class BusyLoops {
  #loops: ChildProcess[] = []; // BOUNDED: by start()'s count

  /** The loops' process ids. */
  get pids(): number[] {
    return this.#loops.map(({ pid }) => pid!);
  }

  start(count: number): void {
    this.#loops = Array.from({ length: count }, () =>
      // detached: by setsid(2)
      spawn("sh", ["-c", "while :; do :; done"], { stdio: "ignore", detached: true }),
    );
  }

  async stop(): Promise<void> {
    const ended = this.#loops.map((loop) => new Promise((resolve) => loop.once("close", resolve)));
    for (const loop of this.#loops) loop.kill("SIGKILL");
    this.#loops = [];
    await Promise.all(ended);
  }
}
