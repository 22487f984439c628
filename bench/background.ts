// A program that runs beside a measurement: a server, or a receiver that prints at its end what it received.
import { type ChildProcess, spawn } from "node:child_process";
import type { LabHost } from "../test/system/lab.ts";

const READY_MS = 10_000;

export class Background {
  readonly #child: ChildProcess;
  readonly #what: string;
  readonly #ended: Promise<number>;
  #output = "";

  /** Starts `argv` in `host` and waits until its output matches `ready`. */
  static async start(host: LabHost, argv: readonly string[], ready: RegExp): Promise<Background> {
    const background = new Background(host, argv);
    await background.#until(ready);
    return background;
  }

  private constructor(host: LabHost, argv: readonly string[]) {
    const [command, ...rest] = host.inside(argv);
    this.#what = `'${argv.join(" ")}' in ${host.netns}`;
    this.#child = spawn(command!, rest, { stdio: ["ignore", "pipe", "pipe"], env: { ...process.env, ...host.env } });
    for (const stream of [this.#child.stdout!, this.#child.stderr!]) {
      stream.setEncoding("utf8").on("data", (text: string) => {
        this.#output += text;
      });
    }
    this.#ended = new Promise((resolve, reject) => {
      this.#child.once("error", reject);
      this.#child.once("close", (status) => resolve(status ?? 128));
    });
    this.#ended.catch(() => {}); // output() and stop() throw it
  }

  /** The program's process id: nsenter becomes the program. */
  get pid(): number {
    return this.#child.pid!;
  }

  get outputSoFar(): string {
    return this.#output;
  }

  /** The program's output, once the program has ended by itself. Throws when it failed. */
  async output(): Promise<string> {
    const status = await this.#ended;
    if (status !== 0) throw new Error(`${this.#what} exited with ${status}: ${this.#output.trim()}`);
    return this.#output;
  }

  /** Signals the program to end, and returns its output. Throws when it failed. */
  interrupt(signal: "SIGINT" | "SIGTERM" = "SIGINT"): Promise<string> {
    this.#child.kill(signal);
    return this.output();
  }

  async stop(): Promise<void> {
    this.#child.kill("SIGTERM");
    await this.#ended;
  }

  #until(ready: RegExp): Promise<void> {
    return new Promise((resolve, reject) => {
      const fail = (why: string): void => reject(new Error(`${this.#what} ${why}: ${this.#output.trim()}`));
      const timer = setTimeout(() => fail("does not get ready"), READY_MS);
      const look = (): void => {
        if (!ready.test(this.#output)) return;
        clearTimeout(timer);
        resolve();
      };
      this.#child.stdout!.on("data", look);
      this.#child.stderr!.on("data", look);
      this.#ended.then(
        () => {
          clearTimeout(timer);
          fail("has ended");
        },
        (error: unknown) => {
          clearTimeout(timer);
          reject(error);
        },
      );
    });
  }
}
