// What a command works with, injected so that a test can stand in for the terminal, the agent and time.
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
  /** Milliseconds of which only differences mean something. */
  monotonic(): number;
  pause(ms: number): Promise<void>;
  /** Calls on Ctrl-C, which then ends the command, until the returned function is called. */
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

/** Does all that can be done, says what cannot, and fails if anything could not. */
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
