// Docker's words for published ports: "9200:9200/tcp", ranges, one address, and the long form.
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

const FORM =
  "write [ADDRESS:][PUBLISHED:]TARGET[/tcp|udp], such as 9200:9200, or target=80,published=8080,protocol=tcp,mode=ingress|host,address=10.0.0.1";
const MAX_RANGE = 1000;
/** Docker Compose calls the address host_ip. */
const LONG_FIELDS = ["published", "target", "protocol", "mode", "address", "host_ip"];

/** Short form, with ranges, or long form. Throws RangeError that says what is wrong. */
export function parsePublishedPorts(text: string): PortWords[] {
  return text.includes("=") ? [longForm(text)] : shortForm(text);
}

function shortForm(text: string): PortWords[] {
  const match = /^(?:(?:([\d.]*\.[\d.]*):)?([\d-]*):)?([\d-]+)(?:\/(\w+))?$/.exec(text);
  if (match === null) throw new RangeError(FORM);
  const [, address = "", first = "", second, protocol = "tcp"] = match;
  const targets = portRange(second!);
  const published = first === "" ? targets.map(() => null) : portRange(first);
  if (published.length !== targets.length) throw new RangeError("both ranges must have as many ports");
  const rest = { protocol: protocolOf(protocol), mode: "ingress", address: addressOf(address) } as const;
  return published.map((port, i) => ({ published: port, target: targets[i]!, ...rest }));
}

function longForm(text: string): PortWords {
  const fields = new Map(text.split(",").map((part) => part.split("=", 2) as [string, string | undefined]));
  for (const name of fields.keys()) {
    if (!LONG_FIELDS.includes(name)) throw new RangeError(`'${name}' is not known${didYouMean(name, LONG_FIELDS)}`);
  }
  const {
    published,
    target,
    protocol = "tcp",
    mode = "ingress",
    host_ip,
    address = host_ip,
  } = Object.fromEntries(fields);
  if (target === undefined) throw new RangeError(FORM);
  if (mode !== "ingress" && mode !== "host") throw new RangeError(`mode '${mode}' is neither ingress nor host`);
  return {
    published: published === undefined ? null : port(published),
    target: port(target),
    protocol: protocolOf(protocol),
    mode,
    address: addressOf(address ?? ""),
  };
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

function addressOf(text: string): string | null {
  if (text === "" || text === "0.0.0.0") return null;
  if (parseIpv4(text) === undefined) throw new RangeError(`'${text}' is not an IPv4 address`);
  return text;
}
