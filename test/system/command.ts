// Child processes and conditions, as system tests use them.
import { type ChildProcess, spawn } from "node:child_process";
import { setTimeout as delay } from "node:timers/promises";
import { systemEnv } from "../../src/lib/command.ts";

export interface Finished {
  status: number;
  stdout: string;
  stderr: string;
}

export interface RunOptions {
  env?: Record<string, string>;
  cwd?: string;
  input?: string;
  /** After this the process is killed, and the status is 124. */
  timeoutMs?: number;
}

/** Runs `argv` without a shell and collects what it says. Rejects only when it cannot be started. */
export function tryRun(argv: readonly string[], options: RunOptions = {}): Promise<Finished> {
  const { env = {}, cwd, input = "", timeoutMs = 60_000 } = options;
  return new Promise((resolve, reject) => {
    const child = spawn(argv[0]!, argv.slice(1), { cwd, env: { ...systemEnv(), ...env } });
    let stdout = "";
    let stderr = "";
    let timedOut = false;
    const timer = setTimeout(() => {
      timedOut = true;
      child.kill("SIGKILL");
    }, timeoutMs);
    child.stdout.setEncoding("utf8").on("data", (text: string) => {
      stdout += text;
    });
    child.stderr.setEncoding("utf8").on("data", (text: string) => {
      stderr += text;
    });
    child.on("error", reject);
    child.stdin.on("error", () => {}); // it may end without reading
    child.stdin.end(input);
    child.on("close", (status) => {
      clearTimeout(timer);
      resolve({ status: timedOut ? 124 : (status ?? 128), stdout, stderr });
    });
  });
}

/** As tryRun, for what must succeed: returns its standard output. */
export async function run(argv: readonly string[], options: RunOptions = {}): Promise<string> {
  const { status, stdout, stderr } = await tryRun(argv, options);
  if (status !== 0) throw new Error(`'${argv.join(" ")}' exited with ${status}: ${(stderr || stdout).trim()}`);
  return stdout;
}

/** A child process that goes on while the test does, and what it has said so far. */
export class Background {
  output = "";
  readonly #child: ChildProcess;
  readonly #status: Promise<number | null>;

  constructor(argv: readonly string[], env: Record<string, string> = {}) {
    this.#child = spawn(argv[0]!, argv.slice(1), {
      stdio: ["ignore", "pipe", "pipe"],
      env: { ...systemEnv(), ...env },
    });
    for (const stream of [this.#child.stdout, this.#child.stderr]) {
      stream?.setEncoding("utf8").on("data", (text: string) => {
        this.output += text;
      });
    }
    this.#status = new Promise((resolve) => this.#child.on("close", resolve));
  }

  /** Waits until it has said `text`. */
  async says(text: string): Promise<this> {
    const what = `'${this.#child.spawnargs.join(" ")}' to say '${text}'`;
    await waitFor(() => this.output.includes(text), { what }).catch((cause) => {
      throw new Error(`${cause.message}; it said: ${this.output}`, { cause });
    });
    return this;
  }

  /** Its exit status, once it has ended. */
  ended(): Promise<number | null> {
    return this.#status;
  }

  end(signal: NodeJS.Signals): Promise<number | null> {
    this.#child.kill(signal);
    return this.#status;
  }
}

export interface WaitOptions {
  /** What is waited for, for the message when it does not come. */
  what: string;
  deadlineMs?: number;
}

/** Asks until the answer is neither undefined nor false, and returns it. An error counts as "not yet". */
export async function waitFor<T>(
  condition: () => Promise<T | undefined | false> | T | undefined | false,
  { what, deadlineMs = 20_000 }: WaitOptions,
): Promise<T> {
  const end = performance.now() + deadlineMs;
  let last: unknown;
  do {
    try {
      const answer = await condition();
      if (answer !== undefined && answer !== false) return answer;
      last = undefined;
    } catch (error) {
      last = error;
    }
    await delay(50);
  } while (performance.now() < end);
  const reason = last === undefined ? "" : `; last: ${last instanceof Error ? last.message : last}`;
  throw new Error(`waited ${deadlineMs} ms for ${what}${reason}`, { cause: last });
}
