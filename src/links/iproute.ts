// iproute2 as child processes: one batch for many changes, and what it says on failure as errors with their remedy.
import { CommandError, run } from "../lib/command.ts";
import { PlatformError } from "../lib/errors.ts";

/** A line of a batch that was refused, by its place in the batch. */
export interface RefusedLine {
  index: number;
  reason: string;
}

function ipArgv(netns: string | null): string[] {
  return netns === null ? ["ip"] : ["ip", "-n", netns];
}

/** One JSON answer a query. The last may name a routing table that does not exist yet; its answer is then empty. */
export async function ipQuery(netns: string | null, queries: readonly string[]): Promise<unknown[][]> {
  return answersIn(await ipPrint(netns, queries), queries);
}

/** What ip prints for the queries of ipQuery(). */
export async function ipPrint(netns: string | null, queries: readonly string[]): Promise<string> {
  const argv = [...ipArgv(netns), "-json", "-details", "-batch", "-"];
  try {
    return await run(argv, `${queries.join("\n")}\n`);
  } catch (error) {
    if (!(error instanceof CommandError) || !/FIB table does not exist/.test(error.stderr))
      throw asPlatformError(error);
    return error.stdout;
  }
}

export function answersIn(output: string, queries: readonly string[]): unknown[][] {
  const lines = output.split("\n").filter((line) => line !== "");
  return queries.map((_, index) => JSON.parse(lines[index] ?? "[]") as unknown[]);
}

/** Carries out all lines, and goes on after one that is refused. */
export function ipBatch(netns: string | null, lines: readonly string[]): Promise<RefusedLine[]> {
  return batch([...ipArgv(netns), "-force", "-batch", "-"], lines);
}

/** Does what ipBatch() does, in a network namespace that is made for it and ends with it. */
export function ipBatchApart(lines: readonly string[]): Promise<RefusedLine[]> {
  return batch(["unshare", "--net", "ip", "-force", "-batch", "-"], lines);
}

export function tcBatch(lines: readonly string[]): Promise<RefusedLine[]> {
  return batch(["tc", "-force", "-batch", "-"], lines);
}

async function batch(argv: readonly string[], lines: readonly string[]): Promise<RefusedLine[]> {
  if (lines.length === 0) return [];
  try {
    await run(argv, `${lines.join("\n")}\n`);
    return [];
  } catch (error) {
    if (!(error instanceof CommandError)) throw error;
    const refused = readRefusedLines(error.stderr);
    if (refused.length === 0) throw asPlatformError(error);
    return refused;
  }
}

/** "REASON\nCommand failed -:LINE\n", a number of times. */
export function readRefusedLines(stderr: string): RefusedLine[] {
  const refused: RefusedLine[] = [];
  let reason: string[] = [];
  for (const line of stderr.split("\n")) {
    const failed = /^Command failed -:(\d+)$/.exec(line);
    if (failed === null) {
      if (line.trim() !== "") reason.push(line.trim());
      continue;
    }
    refused.push({ index: Number(failed[1]) - 1, reason: reason.join("; ") });
    reason = [];
  }
  return refused;
}

const REMEDIES: readonly (readonly [RegExp, string, string])[] = [
  [/not permitted|permission denied/i, "the right to change the network is missing", "run overlayd as root"],
  [/net\/tun/i, "there is no /dev/net/tun", "modprobe tun; in a container, add --device /dev/net/tun"],
  [/qdisc kind is unknown|qdisc not found/i, "the kernel has no clsact qdisc", "modprobe sch_ingress"],
  [/classifier not found|unknown filter/i, "the kernel has no u32 classifier", "modprobe cls_u32"],
  [/load TC action module/i, "the kernel has no mirred action", "modprobe act_mirred"],
  [/rule.*not supported|fib.*rule/i, "the kernel has no policy routing", "a kernel with CONFIG_IP_MULTIPLE_TABLES"],
];

/** The error with its remedy, when it is one that a person can mend on the machine. `command` is what was tried. */
export function platformError(command: string, reason: string): PlatformError {
  for (const [pattern, what, mend] of REMEDIES) {
    if (pattern.test(reason)) return new PlatformError(`${what}: '${command}' said: ${reason}`, mend);
  }
  return new PlatformError(`'${command}' said: ${reason}`, `try it: ${command}`);
}

export function asPlatformError(error: unknown): unknown {
  return error instanceof CommandError ? platformError(error.argv.join(" "), error.stderr.trim()) : error;
}
