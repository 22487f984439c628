// The loop of a driver: a line of JSON on standard input names a call, and one on standard output is its answer.
import { createInterface } from "node:readline";
import { messageOf, PlatformError } from "../../../src/lib/errors.ts";

/** Resolves when standard input ends. */
export async function answerCalls(calls: Record<string, (...args: never[]) => unknown>): Promise<void> {
  for await (const line of createInterface({ input: process.stdin })) {
    const { call, args } = JSON.parse(line) as { call: string; args: never[] };
    let answer: object;
    try {
      answer = { result: (await calls[call]!(...args)) ?? null };
    } catch (error) {
      answer = { error: messageOf(error), mend: error instanceof PlatformError ? error.mend : null };
    }
    process.stdout.write(`${JSON.stringify(answer)}\n`);
  }
}
