// How a task ended, in words for people.
import { constants } from "node:os";
import type { Exit } from "./runtime.ts";

/** Lines of the task's output that a reason quotes. */
export const LAST_LINES = 5;
const REASON_MAX_CHARS = 500;

/** `exitCode` as a shell has it, above 128 for a signal. `printed`: the end of what it printed. */
export function describeExit(exitCode: number, printed: string, isOutOfMemory = false): Exit {
  if (exitCode === 0 && !isOutOfMemory) return { exitCode, error: null };
  const status = exitCode > 128 ? `killed by ${signalName(exitCode - 128)}` : `exit status ${exitCode}`;
  const how = isOutOfMemory ? `out of memory, ${status}` : status;
  const lines = printed.split("\n").map((line) => line.trim());
  const quoted = lines.filter((line) => line !== "").slice(-LAST_LINES);
  return {
    exitCode,
    error: [how, ...(quoted.length === 0 ? [] : [quoted.join(" | ")])].join(": ").slice(0, REASON_MAX_CHARS),
  };
}

function signalName(number: number): string {
  const found = Object.entries(constants.signals).find(([, value]) => value === number);
  return found?.[0] ?? `signal ${number}`;
}
