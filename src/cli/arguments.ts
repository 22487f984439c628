// Reads the words of options: published ports, variables, numbers, durations. Each function throws commander's
// InvalidArgumentError, which ends in a usage message.
import { InvalidArgumentError } from "commander";
import type { ServiceNetwork } from "../api/schema.ts";
import { DURATION_EXAMPLES, parseDuration } from "../lib/duration.ts";
import { messageOf } from "../lib/errors.ts";
import { type PortWords, parsePublishedPorts } from "../lib/published-ports.ts";

/** Makes a reader for a word that may be given several times: it adds to what was there. */
export function collect<T>(read: (text: string) => T[]): (text: string, before: T[] | undefined) => T[] {
  return (text, before = []) => [...before, ...read(text)];
}

/** Reads Docker's `-p`. */
export function publishedPorts(text: string): PortWords[] {
  try {
    return parsePublishedPorts(text);
  } catch (error) {
    throw new InvalidArgumentError(messageOf(error));
  }
}

/** Reads "KEY=VALUE", or "KEY" with its value in `environment`: no variable when it has none there, as Docker does. */
export function variable(text: string, environment: NodeJS.ProcessEnv): [key: string, value: string][] {
  const equals = text.indexOf("=");
  const key = equals < 0 ? text : text.slice(0, equals);
  if (key === "") throw new InvalidArgumentError("write KEY=VALUE");
  const value = equals < 0 ? (Object.hasOwn(environment, key) ? environment[key] : undefined) : text.slice(equals + 1);
  return value === undefined ? [] : [[key, value]];
}

/** "web", or Docker's "name=web,alias=db". */
export function serviceNetwork(text: string): ServiceNetwork[] {
  if (!text.includes("=")) return [text];
  const aliases: string[] = [];
  let name: string | undefined;
  for (const part of text.split(",")) {
    const equals = part.indexOf("=");
    const [key, value] = [part.slice(0, equals), part.slice(equals + 1)];
    if (key === "alias" && value !== "") aliases.push(value);
    else if (key === "name" && value !== "" && name === undefined) name = value;
    else throw new InvalidArgumentError("write NETWORK, or name=NETWORK,alias=NAME");
  }
  if (name === undefined) throw new InvalidArgumentError("write NETWORK, or name=NETWORK,alias=NAME");
  return [{ name, aliases }];
}

/** "30s", "2m", or "30" for seconds. */
export function seconds(text: string): number {
  const ms = duration(text);
  if (ms % 1000 !== 0) throw new InvalidArgumentError("whole seconds are needed");
  return ms / 1000;
}

export function count(text: string): number {
  if (!/^\d+$/.test(text)) throw new InvalidArgumentError("a whole number, 0 or more, is needed");
  return Number(text);
}

/** "30s" or "1m30s" as milliseconds; seconds without a unit. */
export function duration(text: string): number {
  const ms = parseDuration(/^\d+$/.test(text) ? `${text}s` : text);
  if (ms === undefined) throw new InvalidArgumentError(`a number and a unit are needed: ${DURATION_EXAMPLES}`);
  return ms;
}

/** "192.0.2.50:8472" */
export function vtep(text: string): { vtep: string; port?: number } {
  const [address, digits, rest] = text.split(":");
  if (!address || rest !== undefined) throw new InvalidArgumentError("write ADDRESS or ADDRESS:PORT");
  return digits === undefined ? { vtep: address } : { vtep: address, port: count(digits) };
}

/** "node1=3" */
export function weight(text: string): [node: string, weight: number] {
  const [node, digits, rest] = text.split("=");
  if (!node || digits === undefined || rest !== undefined) throw new InvalidArgumentError("write NODE=WEIGHT");
  return [node, count(digits)];
}

/** "search=5" */
export function scaling(text: string): { name: string; replicas: number } {
  const [name, replicas, rest] = text.split("=");
  if (!name || replicas === undefined || rest !== undefined) throw new InvalidArgumentError("write SERVICE=REPLICAS");
  return { name, replicas: count(replicas) };
}
