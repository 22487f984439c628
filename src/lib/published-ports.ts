// Docker's words for published ports: "9200:9200/tcp", ranges, and the long form.
import { didYouMean } from "./nearest.ts";

export interface PortWords {
  published: number;
  target: number;
  protocol: "tcp" | "udp";
}

const FORM = "write PUBLISHED:TARGET[/tcp|udp], such as 9200:9200, or published=9200,target=9200,protocol=tcp";
const MAX_RANGE = 1000;

/** Short form, with ranges, or long form. Throws RangeError that says what is wrong. */
export function parsePublishedPorts(text: string): PortWords[] {
  return text.includes("=") ? longForm(text) : shortForm(text);
}

function shortForm(text: string): PortWords[] {
  const match = /^([\d-]+)(?::([\d-]+))?(?:\/(\w+))?$/.exec(text);
  if (match === null) throw new RangeError(FORM);
  const [, first, second, protocol = "tcp"] = match;
  if (second === undefined) throw new RangeError(`the port to publish is missing: ${FORM}`);
  const published = portRange(first!);
  const targets = portRange(second);
  if (published.length !== targets.length) throw new RangeError("both ranges must have as many ports");
  return published.map((port, i) => ({ published: port, target: targets[i]!, protocol: protocolOf(protocol) }));
}

function longForm(text: string): PortWords[] {
  const fields = new Map(text.split(",").map((part) => part.split("=", 2) as [string, string | undefined]));
  const known = ["published", "target", "protocol", "mode"];
  for (const name of fields.keys()) {
    if (!known.includes(name)) throw new RangeError(`'${name}' is not known${didYouMean(name, known)}`);
  }
  const { published, target, protocol = "tcp", mode = "ingress" } = Object.fromEntries(fields);
  if (mode !== "ingress")
    throw new RangeError(`mode '${mode}' is not supported: ports are published by the routing mesh`);
  if (published === undefined || target === undefined) throw new RangeError(FORM);
  return [{ published: port(published), target: port(target), protocol: protocolOf(protocol) }];
}

function portRange(text: string): number[] {
  const [first, last, rest] = text.split("-");
  const from = port(first!);
  const to = last === undefined ? from : port(last);
  if (rest !== undefined || to < from || to - from >= MAX_RANGE) {
    throw new RangeError(`'${text}' is not a range of at most ${MAX_RANGE} ports`);
  }
  return Array.from({ length: to - from + 1 }, (_, i) => from + i);
}

function port(text: string): number {
  const value = Number(text);
  if (!/^\d+$/.test(text) || value < 1 || value > 65535) {
    throw new RangeError(`'${text}' is not a port from 1 to 65535`);
  }
  return value;
}

function protocolOf(text: string): "tcp" | "udp" {
  const protocol = text.toLowerCase();
  if (protocol === "tcp" || protocol === "udp") return protocol;
  throw new RangeError(`protocol '${text}' is neither tcp nor udp`);
}
