// wrk, run outside the overlay against one address, and its report read.
import type { LabHost } from "../test/system/lab.ts";
import { withCpu } from "./cpu.ts";
import type { Sample } from "./experiment.ts";

export interface HttpLoad {
  from: LabHost;
  url: string;
  /** Processes that carry or forward the requests. */
  agents(): readonly number[];
}

const CONNECTIONS = 32;
const UNIT_MICROS: Record<string, number> = { us: 1, ms: 1000, s: 1_000_000, m: 60_000_000 };

/**
 * Requests a second, latencies in milliseconds, requests that failed, and the CPU time of a request. `keepAlive` false:
 * a connection for each.
 */
export async function wrk({ from, url, agents }: HttpLoad, seconds: number, keepAlive: boolean): Promise<Sample> {
  const header = keepAlive ? [] : ["-H", "Connection: close"];
  const wholeSeconds = Math.ceil(seconds);
  const argv = ["wrk", "-t", "1", "-c", `${CONNECTIONS}`, "-d", `${wholeSeconds}s`, "--latency", ...header, url];
  const load = async () => sampleOf(await from.exec(argv, { timeoutMs: 1000 * seconds + 30_000 }));
  return withCpu(agents(), load, ({ requests }) => requests! * wholeSeconds);
}

export function sampleOf(text: string): Sample {
  const requests = Number(/Requests\/sec:\s+([\d.]+)/.exec(text)?.[1]);
  const errors = /Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)/.exec(text)?.slice(1) ?? [];
  const refused = Number(/Non-2xx or 3xx responses: (\d+)/.exec(text)?.[1] ?? 0);
  const failed = errors.reduce((sum, count) => sum + Number(count), refused);
  return { requests, p50: latencyAt(50, text), p99: latencyAt(99, text), failed };
}

function latencyAt(percent: number, text: string): number {
  const match = new RegExp(`^\\s+${percent}%\\s+([\\d.]+)(us|ms|s|m)$`, "m").exec(text);
  if (match === null) throw new Error(`wrk has no latency at ${percent} % in: ${text}`);
  return (Number(match[1]) * UNIT_MICROS[match[2]!]!) / 1000;
}
