// Docker's words for published ports: "9200:9200/tcp", ranges, one address, and the long form.
import { counted } from "./counted.ts";
import { parseIpv4 } from "./ip.ts";
import { didYouMean } from "./nearest.ts";

export interface PortWords {
  /** null: to be chosen. */
  published: number | null;
  target: number;
  protocol: "tcp" | "udp";
  mode: "ingress" | "host";
  /** null: every address. */
  address: string | null;
}

const SHORT_FORM = "write [ADDRESS:][PUBLISHED:]TARGET[/tcp|udp], such as 9200:9200";
const LONG_FORM = "write target=80,published=8080,protocol=tcp|udp,mode=ingress|host,address=10.0.0.1";
const MAX_RANGE = 1000;
/** Docker Compose calls the address host_ip. */
const LONG_FIELDS: Record<string, "target" | "published" | "protocol" | "mode" | "address"> = {
  target: "target",
  published: "published",
  protocol: "protocol",
  mode: "mode",
  address: "address",
  host_ip: "address",
};

/** Short form, with ranges, or long form. Throws RangeError that says what is wrong. */
export function parsePublishedPorts(text: string): PortWords[] {
  return text.includes("=") ? [longForm(text)] : shortForm(text);
}

function shortForm(text: string): PortWords[] {
  const [ports = "", protocol = "tcp", ...more] = text.split("/");
  const parts = ports.split(":");
  if (ports.includes("[") || parts.length > 3) {
    throw new RangeError(`'${text}' has an IPv6 address, and nodes answer on IPv4 addresses only`);
  }
  const [target = "", first = "", address = ""] = parts.toReversed();
  if (target === "" || more.length > 0) throw new RangeError(SHORT_FORM);
  if (parts.length === 2 && parseIpv4(first) !== undefined) {
    throw new RangeError(`which port of ${first}? Write ${first}:PUBLISHED:${target}, or ${first}::${target} for any`);
  }
  const targets = portRange(target);
  const published = isChosen(first) ? targets.map(() => null) : portRange(first);
  if (published.length !== targets.length && targets.length > 1) {
    throw new RangeError(
      `'${first}' is ${counted(published.length, "port")} and '${target}' ${targets.length}: write as many`,
    );
  }
  const rest = { protocol: protocolOf(protocol), mode: "ingress", address: addressOf(address) } as const;
  return published.map((port, i) => ({ published: port, target: targets[i] ?? targets[0]!, ...rest }));
}

/** A line of CSV, as Docker takes it: a field may stand in quotes. */
function longForm(text: string): PortWords {
  const fields = new Map<string, string>();
  for (const part of text.split(",")) {
    const [word = "", ...rest] = part.replace(/^"(.*)"$/, "$1").split("=");
    const key = word.toLowerCase();
    const name = Object.hasOwn(LONG_FIELDS, key) ? LONG_FIELDS[key] : undefined;
    if (name === undefined) {
      const known = Object.keys(LONG_FIELDS);
      throw new RangeError(`'${word}' is none of ${known.join(", ")}${didYouMean(word, known)}`);
    }
    if (fields.has(name)) throw new RangeError(`${name} is given twice`);
    const value = rest.join("=");
    if (value === "") throw new RangeError(`${word} has no value: ${LONG_FORM}`);
    fields.set(name, value);
  }
  const { published = "", target, protocol = "tcp", mode = "ingress", address = "" } = Object.fromEntries(fields);
  if (target === undefined) throw new RangeError(`the target is missing: ${LONG_FORM}`);
  if (mode !== "ingress" && mode !== "host") {
    throw new RangeError(`mode is ingress or host, not '${mode}'${didYouMean(mode, ["ingress", "host"])}`);
  }
  return {
    published: isChosen(published) ? null : fieldPort("published", published),
    target: fieldPort("target", target),
    protocol: protocolOf(protocol),
    mode,
    address: addressOf(address),
  };
}

function isChosen(published: string): boolean {
  return published === "" || published === "0";
}

function fieldPort(name: string, text: string): number {
  if (/^\d+$/.test(text) && isPort(Number(text))) return Number(text);
  const hint = text.includes("-") ? ": only the short form has ranges, as 8000-8010:80" : "";
  throw new RangeError(`${name} is a port from 1 to 65535, not '${text}'${hint}`);
}

function portRange(text: string): number[] {
  const [, first, last = first] = /^(\d+)(?:-(\d+))?$/.exec(text) ?? [];
  const [from, to] = [Number(first), Number(last)];
  if (!isPort(from) || !isPort(to)) {
    throw new RangeError(`'${text}' is not a port from 1 to 65535, or a range of them`);
  }
  if (to < from || to - from >= MAX_RANGE) throw new RangeError(`'${text}' is not a range of 1 to ${MAX_RANGE} ports`);
  return Array.from({ length: to - from + 1 }, (_, i) => from + i);
}

function isPort(value: number): boolean {
  return value >= 1 && value <= 65535;
}

function protocolOf(text: string): "tcp" | "udp" {
  const protocol = text.toLowerCase();
  if (protocol === "tcp" || protocol === "udp") return protocol;
  throw new RangeError(`protocol is tcp or udp, not '${text}'`);
}

function addressOf(text: string): string | null {
  if (text === "" || text === "0.0.0.0") return null;
  if (parseIpv4(text) === undefined) throw new RangeError(`'${text}' is not an IPv4 address`);
  return text;
}
