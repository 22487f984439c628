// Child processes and conditions, as system tests use them.
import { type ChildProcess, spawn } from "node:child_process";
import { setTimeout as delay } from "node:timers/promises";
import { systemEnv } from "../../src/lib/command.ts";

/**
 * How long a test waits for what must come: longer than it takes on the busiest machine. `npm test` asserts no time; how
 * fast things are is measured by `npm run bench`.
 */
export const DEADLINE_MS = 180_000;
/** One try of several that waitFor() makes, where a packet that was lost would take the whole deadline. */
export const TRY_MS = 10_000;
/** How long a test looks for what must not come. On a slow machine it says less, and is not wrong. */
export const IN_VAIN_MS = 1_500;

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
  const { env = {}, cwd, input = "", timeoutMs = DEADLINE_MS } = options;
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

/** argv of a ping that waits for its first answer; options as of ping(8), which may ask more than once. */
export function ping(target: string, ...options: string[]): string[] {
  return ["ping", "-c1", "-W", seconds(DEADLINE_MS), ...options, target];
}

/** argv of a ping that must not be answered, or is one try of several. */
export function pingInVain(target: string, ...options: string[]): string[] {
  return ["ping", "-c1", "-W", seconds(IN_VAIN_MS), ...options, target];
}

/** argv of one DNS question that waits for its answer. */
export function dig(...words: string[]): string[] {
  return ["dig", "+tries=1", `+time=${seconds(DEADLINE_MS)}`, ...words];
}

/** argv of a request that waits for its answer. */
export function curl(...words: string[]): string[] {
  return ["curl", "-s", "-m", seconds(DEADLINE_MS), ...words];
}

/** argv of a request that must not be answered, or is one try of several. */
export function curlBriefly(...words: string[]): string[] {
  return ["curl", "-s", "-m", seconds(TRY_MS), ...words];
}

function seconds(ms: number): string {
  return String(Math.ceil(ms / 1000));
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

  signal(signal: NodeJS.Signals): void {
    this.#child.kill(signal);
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
  /** The pause between two tries; left out: 50. */
  everyMs?: number;
}

/** Asks until the answer is neither undefined nor false, and returns it. An error counts as "not yet". */
export async function waitFor<T>(
  condition: () => Promise<T | undefined | false> | T | undefined | false,
  { what, deadlineMs = DEADLINE_MS, everyMs = 50 }: WaitOptions,
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
    await delay(everyMs);
  } while (performance.now() < end);
  const reason = last === undefined ? "" : `; last: ${last instanceof Error ? last.message : last}`;
  throw new Error(`waited ${deadlineMs} ms for ${what}${reason}`, { cause: last });
}
