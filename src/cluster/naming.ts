// How a container is called, and where it looks for names: its hostname, lines of its /etc/hosts, its resolv.conf.
import { isIP } from "node:net";
import { z } from "zod";
import { isUnicast } from "../lib/unicast.ts";

/** One label of a name in DNS or several, with the `_` that Docker takes too. */
export const LABELS = /^[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?)*$/i;
/** The word that stands for the address of the container's gateway, where it reaches its node. */
export const HOST_GATEWAY = "host-gateway";

/** Placeholders in a hostname, in Docker Swarm's form, by the field of the task that each stands for. */
const PLACEHOLDER = /\{\{\s*\.(\w+\.\w+)\s*\}\}/g;
const PLACEHOLDERS = [
  "Node.Hostname",
  "Node.ID",
  "Service.Name",
  "Service.ID",
  "Task.Name",
  "Task.ID",
  "Task.Slot",
] as const;
type Placeholder = (typeof PLACEHOLDERS)[number];

/** One less than sethostname(2) takes. */
const HOSTNAME_MAX_CHARS = 63;

const Hostname = z
  .string()
  .max(255, "a hostname has at most 63 characters")
  .superRefine((text, context) => {
    const sample = text.replace(PLACEHOLDER, (whole, word) => (PLACEHOLDERS.includes(word) ? "x" : whole));
    const unknown = /\{\{.*?\}\}|\{\{.*|.*\}\}/.exec(sample)?.[0];
    if (unknown !== undefined) {
      const known = PLACEHOLDERS.map((word) => `{{.${word}}}`).join(", ");
      context.addIssue(`'${unknown}' is no placeholder; the placeholders are ${known}`);
    } else if (sample.length > HOSTNAME_MAX_CHARS) context.addIssue("a hostname has at most 63 characters");
    else if (!LABELS.test(sample)) context.addIssue("a hostname has letters, digits, '-', '_' and dots between them");
  });

const Host = z.strictObject({
  name: z.string().max(253, "a host's name has at most 253 characters").regex(LABELS, "not a host's name"),
  address: z
    .string()
    .max(64, "not an IP address")
    .refine((text) => isIP(text) !== 0 || text === HOST_GATEWAY, `not an IP address, nor '${HOST_GATEWAY}'`),
});

const Server = z
  .string()
  .max(64, "a name server is an IP address")
  .refine((text) => isIP(text) !== 0, "a name server is an IP address")
  .refine((text) => !text.includes("%"), "a name server has no link after it: every node has its own")
  .refine(
    (text) => isIP(text) === 0 || text.includes("%") || isUnicast(text),
    "no name server has this address: the node asks it for the container, so that it is no loopback or link-local one",
  );

const SearchDomain = z
  .string()
  .max(253, "a search domain has at most 253 characters")
  .transform((text) => text.replace(/(?<=.)\.$/, ""))
  .refine((text) => LABELS.test(text), "not a domain; '.' alone is for none");

/** An option of resolv.conf(5), which lists them; a resolver ignores options that it does not know. */
const Option = z
  .string()
  .max(64, "an option has at most 64 characters")
  .regex(/^[a-z0-9_-]+(:\d+)?$/i, "an option is a word such as rotate, or one with a number such as ndots:2");

export const Dns = z.strictObject({
  /** Name servers that the node asks instead of its own resolvers. */
  servers: z.array(Server).max(8, "at most 8 name servers").default([]),
  /** Search domains; null: the node's. An empty list: not even the overlay's own. */
  search: z.array(SearchDomain).max(32, "at most 32 search domains").nullable().default(null),
  /** null: the node's. */
  options: z.array(Option).max(16, "at most 16 options").nullable().default(null),
});
export type Dns = z.infer<typeof Dns>;

export const Naming = z.strictObject({
  /** The hostname, which may have placeholders; null: the runtime gives one. */
  hostname: Hostname.nullable().default(null),
  /** Lines of /etc/hosts. */
  hosts: z.array(Host).max(100, "at most 100 hosts").default([]),
  dns: Dns.default({ servers: [], search: null, options: null }),
});
/** The naming options, checked. */
export type Naming = z.infer<typeof Naming>;
/** The naming options as a caller may write them, with defaults left out. */
export type NamingInput = z.input<typeof Naming>;

/** A hostname with its placeholders filled in, cut to what a host can be called. */
export function fillIn(hostname: string, values: Readonly<Record<Placeholder, string>>): string {
  const filled = hostname.replace(PLACEHOLDER, (_, word: Placeholder) => values[word]);
  return filled.slice(0, HOSTNAME_MAX_CHARS).replace(/[.-]+$/, "");
}
