// Reads and writes the text of resolv.conf(5): name servers, search domains and options.

export interface Resolver {
  readonly nameservers: readonly string[];
  readonly search: readonly string[];
  readonly options: readonly string[];
}

/** Reads the text. The last `search` or `domain` line counts; options add up. Name servers stay as they are written. */
export function parseResolvConf(text: string): Resolver {
  const nameservers: string[] = [];
  let search: string[] = [];
  const options: string[] = [];
  for (const line of text.split("\n")) {
    const [keyword, ...words] = line.replace(/[#;].*/, "").split(/[ \t\r]+/);
    if (keyword === "nameserver" && words[0]) nameservers.push(words[0]);
    else if (keyword === "search") search = words.filter(Boolean);
    else if (keyword === "domain") search = words.filter(Boolean).slice(0, 1);
    else if (keyword === "options") options.push(...words.filter(Boolean));
  }
  return { nameservers, search: search.filter((domain) => domain !== "."), options };
}

export function formatResolvConf({ nameservers, search, options }: Resolver): string {
  const lines = nameservers.map((address) => `nameserver ${address}`);
  if (search.length > 0) lines.push(`search ${search.join(" ")}`);
  if (options.length > 0) lines.push(`options ${options.join(" ")}`);
  return `${lines.join("\n")}\n`;
}

/** The options with Docker's default, `ndots:0`, unless they have `ndots`: a name is asked for as it is before search domains are tried. */
export function withNdots(options: readonly string[]): string[] {
  return options.some((option) => option.startsWith("ndots:")) ? [...options] : [...options, "ndots:0"];
}
