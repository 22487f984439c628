// The words of options, read: published ports, variables, numbers, durations. Each throws commander's
// InvalidArgumentError, which ends in a usage message.
import { InvalidArgumentError } from "commander";
import type { PortView } from "../api/schema.ts";
import { didYouMean } from "../lib/nearest.ts";

const PORT_FORM = "write PUBLISHED:TARGET[/tcp|udp], such as 9200:9200, or published=9200,target=9200,protocol=tcp";
const UNIT_MS: Record<string, number> = { ms: 1, s: 1000, m: 60_000, h: 3_600_000 };
const MAX_RANGE = 1000;

/** An option that may be given several times: adds to what was there. */
export function collect<T>(read: (text: string) => T[]): (text: string, before: T[] | undefined) => T[] {
  return (text, before = []) => [...before, ...read(text)];
}

export function words(text: string): string[] {
  return [text];
}

/** Docker's `-p`: short form, with ranges, or long form. */
export function publishedPorts(text: string): PortView[] {
  return text.includes("=") ? longForm(text) : shortForm(text);
}

function shortForm(text: string): PortView[] {
  const match = /^([\d-]+)(?::([\d-]+))?(?:\/(\w+))?$/.exec(text);
  if (match === null) throw new InvalidArgumentError(PORT_FORM);
  const [, first, second, protocol = "tcp"] = match;
  if (second === undefined) throw new InvalidArgumentError(`the port to publish is missing: ${PORT_FORM}`);
  const published = portRange(first!);
  const targets = portRange(second);
  if (published.length !== targets.length) throw new InvalidArgumentError("both ranges must have as many ports");
  return published.map((port, i) => ({ published: port, target: targets[i]!, protocol: protocolOf(protocol) }));
}

function longForm(text: string): PortView[] {
  const fields = new Map(text.split(",").map((part) => part.split("=", 2) as [string, string | undefined]));
  const known = ["published", "target", "protocol", "mode"];
  for (const name of fields.keys()) {
    if (!known.includes(name)) throw new InvalidArgumentError(`'${name}' is not known${didYouMean(name, known)}`);
  }
  const { published, target, protocol = "tcp", mode = "ingress" } = Object.fromEntries(fields);
  if (mode !== "ingress")
    throw new InvalidArgumentError(`mode '${mode}' is not supported: ports are published by the routing mesh`);
  if (published === undefined || target === undefined) throw new InvalidArgumentError(PORT_FORM);
  return [{ published: port(published), target: port(target), protocol: protocolOf(protocol) }];
}

function portRange(text: string): number[] {
  const [first, last, rest] = text.split("-");
  const from = port(first!);
  const to = last === undefined ? from : port(last);
  if (rest !== undefined || to < from || to - from >= MAX_RANGE) {
    throw new InvalidArgumentError(`'${text}' is not a range of at most ${MAX_RANGE} ports`);
  }
  return Array.from({ length: to - from + 1 }, (_, i) => from + i);
}

function port(text: string): number {
  const value = Number(text);
  if (!/^\d+$/.test(text) || value < 1 || value > 65535) {
    throw new InvalidArgumentError(`'${text}' is not a port from 1 to 65535`);
  }
  return value;
}

function protocolOf(text: string): "tcp" | "udp" {
  const protocol = text.toLowerCase();
  if (protocol === "tcp" || protocol === "udp") return protocol;
  throw new InvalidArgumentError(`protocol '${text}' is neither tcp nor udp`);
}

/** "KEY=VALUE", or "KEY" with the value it has here (left out when it has none), as Docker does. */
export function variable(text: string, environment: NodeJS.ProcessEnv): [key: string, value: string][] {
  const equals = text.indexOf("=");
  const key = equals < 0 ? text : text.slice(0, equals);
  if (key === "") throw new InvalidArgumentError("write KEY=VALUE");
  const value = equals < 0 ? environment[key] : text.slice(equals + 1);
  return value === undefined ? [] : [[key, value]];
}

export function count(text: string): number {
  if (!/^\d+$/.test(text)) throw new InvalidArgumentError("a whole number, 0 or more, is needed");
  return Number(text);
}

/** "30s" as milliseconds; seconds without a unit. */
export function duration(text: string): number {
  const match = /^(\d{1,9})(ms|s|m|h)?$/.exec(text);
  if (match === null) throw new InvalidArgumentError("a number and a unit are needed: 30s, 2m");
  return Number(match[1]) * UNIT_MS[match[2] ?? "s"]!;
}

/** "search=5" */
export function scaling(text: string): { name: string; replicas: number } {
  const [name, replicas, rest] = text.split("=");
  if (!name || replicas === undefined || rest !== undefined) throw new InvalidArgumentError("write SERVICE=REPLICAS");
  return { name, replicas: count(replicas) };
}
