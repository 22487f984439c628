// The surroundings of a command: terminal, agent and time, each a parameter so that a test can stand in for it.
import type { ApiClient } from "../api/client.ts";
import { messageOf } from "../lib/errors.ts";

export interface Context {
  api(): ApiClient;
  out(text: string): void;
  err(text: string): void;
  /** The width of the terminal that `out` is; undefined when it is none. */
  columns(): number | undefined;
  /** Wall-clock milliseconds since 1970. */
  now(): number;
  /** Monotonic milliseconds; only differences mean something. */
  monotonic(): number;
  pause(ms: number): Promise<void>;
  /** Calls `call` on Ctrl-C before the command ends, until the returned function is called. */
  onInterrupt(call: () => void): () => void;
}

/** Ends the command with this status, without a message. */
export class ExitStatus extends Error {
  override name = "ExitStatus";
  readonly status: number;

  constructor(status: number) {
    super(`exit status ${status}`);
    this.status = status;
  }
}

/** Calls `call` for each name, prints the errors, and throws ExitStatus at the end if there was one. */
export async function forEachName(
  context: Context,
  names: readonly string[],
  call: (name: string) => Promise<void>,
): Promise<void> {
  let failed = false;
  for (const name of names) {
    try {
      await call(name);
    } catch (error) {
      failed = true;
      context.err(`overlayctl: ${messageOf(error)}\n`);
    }
  }
  if (failed) throw new ExitStatus(1);
}
