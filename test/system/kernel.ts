// Network namespaces for tests of links/ and mesh/, and a driver that runs these inside one of them.
import { spawn } from "node:child_process";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import type { ExecutionContext } from "ava";
import { systemEnv } from "../../src/lib/command.ts";
import { run } from "./command.ts";

/** Namespaces for one test, removed with it. Names carry the process id: nobody else's are touched. */
export class Kernel {
  readonly #names = new Map<string, string>(); // BOUNDED: by the test
  readonly #drivers: Driver[] = [];
  static #count = 0;

  static async create(t: ExecutionContext, ...names: string[]): Promise<Kernel> {
    const kernel = new Kernel();
    t.teardown(() => kernel.#remove());
    const prefix = `links${process.pid}x${Kernel.#count++}`;
    for (const name of names) {
      const netns = `${prefix}-${name}`;
      kernel.#names.set(name, netns);
      await run(["ip", "netns", "add", netns]);
      await run(["ip", "-n", netns, "link", "set", "lo", "up"]);
    }
    return kernel;
  }

  netns(name: string): string {
    return this.#names.get(name)!;
  }

  /** argv that runs `argv` in there. */
  in(name: string, ...argv: string[]): string[] {
    return ["nsenter", `--net=/run/netns/${this.netns(name)}`, ...argv];
  }

  exec(name: string, ...argv: string[]): Promise<string> {
    return run(this.in(name, ...argv), { env: { PATH: systemEnv().PATH! } });
  }

  /** Splits `command` at blanks. */
  async sh(name: string, command: string): Promise<string> {
    return this.exec(name, ...command.split(" "));
  }

  /** Runs one of the drivers in programs/ in there. */
  driver(name: string, which: "kernel-driver" | "lane-driver" | "data-path-driver" = "kernel-driver"): Driver {
    const program = fileURLToPath(new URL(`./programs/${which}.js`, import.meta.url));
    const driver = new Driver(this.in(name, process.execPath, program));
    this.#drivers.push(driver);
    return driver;
  }

  async #remove(): Promise<void> {
    for (const driver of this.#drivers) await driver.kill();
    for (const netns of this.#names.values()) await run(["ip", "netns", "del", netns]);
  }
}

export class DriverError extends Error {
  readonly mend: string | null;

  constructor(message: string, mend: string | null) {
    super(message);
    this.mend = mend;
  }
}

export class Driver {
  readonly #child;
  readonly #answers: AsyncIterator<string>;
  readonly #ended: Promise<void>;
  /** What it logged. */
  log = "";

  constructor(argv: readonly string[]) {
    this.#child = spawn(argv[0]!, argv.slice(1), { stdio: ["pipe", "pipe", "pipe"] });
    this.#ended = new Promise((resolve) => this.#child.on("close", () => resolve()));
    this.#answers = createInterface({ input: this.#child.stdout })[Symbol.asyncIterator]();
    this.#child.stderr.setEncoding("utf8").on("data", (text: string) => {
      this.log += text;
    });
  }

  async call(call: string, ...args: unknown[]): Promise<unknown> {
    this.#child.stdin.write(`${JSON.stringify({ call, args })}\n`);
    const line = await this.#answers.next();
    if (line.done) throw new Error(`the driver is gone: ${this.log}`);
    const answer = JSON.parse(line.value) as { result: unknown; error?: string; mend: string | null };
    if (answer.error !== undefined) throw new DriverError(answer.error, answer.mend);
    return answer.result;
  }

  /** As `kill -9`. */
  async kill(): Promise<void> {
    this.#child.kill("SIGKILL");
    await this.#ended;
  }
}
