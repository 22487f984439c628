// dnsperf, run in a container against one server, and its report read.
import { readFileSync } from "node:fs";
import { join } from "node:path";
import type { LabHost } from "../test/system/lab.ts";
import { Background } from "./background.ts";
import { percentile } from "./statistics.ts";

export interface DnsLoad {
  from: LabHost;
  address: string;
  port: number;
  /** Has QUERIES_FILE with `NAME TYPE` lines; the latencies are written there. */
  directory: string;
  seconds: number;
  /** Processes that answer. */
  agents(): readonly number[];
}

export const QUERIES_FILE = "dns-queries";
const OUTSTANDING = 100;
/** A query without an answer for longer is lost. */
const LOST_SECONDS = 2;

export interface DnsOutcome {
  perSecond: number;
  lost: number;
}

/** Sends as many queries as are answered, or `rate` a second. */
export async function dnsperf(load: DnsLoad, rate?: number): Promise<DnsOutcome> {
  return outcomeOf(await load.from.exec(argvOf(load, rate), { timeoutMs: 1000 * load.seconds + 20_000 }));
}

/** Milliseconds that the answers to `rate` queries a second took. */
export async function dnsLatencies(load: DnsLoad, rate: number): Promise<{ p50: number; p99: number; lost: number }> {
  const path = join(load.directory, "dns-latencies");
  const argv = ["sh", "-c", 'out=$1; shift; exec "$@" >"$out"', "sh", path, ...argvOf(load, rate), "-v"];
  await load.from.exec(argv, { timeoutMs: 1000 * load.seconds + 20_000 });
  const text = readFileSync(path, "utf8");
  const latencies = latenciesOf(text);
  return { p50: percentile(latencies, 50), p99: percentile(latencies, 99), lost: outcomeOf(text).lost };
}

/** Starts queries that go on beside a measurement; output() resolves when the load's time is over. */
export function startDnsperf(load: DnsLoad, rate: number): Promise<Background> {
  return Background.start(load.from, argvOf(load, rate), /Sending queries/);
}

function argvOf({ address, port, directory, seconds }: DnsLoad, rate?: number): string[] {
  const argv = ["dnsperf", "-s", address, "-p", `${port}`, "-d", join(directory, QUERIES_FILE), "-l", `${seconds}`];
  const limits = ["-q", `${OUTSTANDING}`, "-t", `${LOST_SECONDS}`];
  return [...argv, ...limits, ...(rate === undefined ? [] : ["-Q", `${Math.round(rate)}`])];
}

/** Reads dnsperf's report. Throws when it is none, or when answers were errors. */
export function outcomeOf(text: string): DnsOutcome {
  const perSecond = numberAfter(text, /Queries per second:\s+([\d.]+)/);
  const lost = numberAfter(text, /Queries lost:\s+(\d+)/);
  const completed = numberAfter(text, /Queries completed:\s+(\d+)/);
  const answered = Number(/Response codes:.*?NOERROR (\d+)/.exec(text)?.[1] ?? 0);
  if (answered < completed) throw new Error(`${completed - answered} of ${completed} DNS answers were errors`);
  return { perSecond, lost };
}

/** Milliseconds in the report of `dnsperf -v`, which has `> NOERROR name A 0.000123` for each answer, in seconds. */
export function latenciesOf(text: string): number[] {
  return [...text.matchAll(/^> NOERROR \S+ \S+ ([\d.]+)$/gm)].map(
    ([, seconds]) => Math.round(1e6 * Number(seconds)) / 1000,
  );
}

function numberAfter(text: string, pattern: RegExp): number {
  const found = pattern.exec(text)?.[1];
  if (found === undefined) throw new Error(`dnsperf has no '${pattern.source}' in: ${text.slice(-500)}`);
  return Number(found);
}
