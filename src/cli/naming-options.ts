// Docker's options for a container's hostname and for where it looks for names: --hostname, --add-host, --dns and so on.
import { InvalidArgumentError } from "commander";
import type { OpenSandbox } from "../api/schema.ts";
import type { RequestOption } from "./request-options.ts";

type Naming = NonNullable<OpenSandbox["naming"]>;
type Host = NonNullable<Naming["hosts"]>[number];
export type NamingField = "hostname" | "hosts" | `dns.${keyof NonNullable<Naming["dns"]>}`;

export const NAMING_OPTIONS: readonly RequestOption<NamingField>[] = [
  { flags: "--hostname <name>", help: "hostname of each container", field: "hostname" },
  {
    flags: "--add-host <host:ip>",
    help: "add a line to its /etc/hosts; the address may be host-gateway",
    field: "hosts",
    read: host,
    several: "list",
  },
  {
    flags: "--dns <address>",
    help: "ask this name server for names that are not the overlay's",
    field: "dns.servers",
    several: "list",
  },
  {
    flags: "--dns-search <domain>",
    help: "a search domain instead of the node's; '.' alone: none",
    field: "dns.search",
    several: "list",
  },
  {
    flags: "--dns-option <option>",
    help: "an option of resolv.conf instead of the node's, such as ndots:2",
    field: "dns.options",
    several: "list",
  },
];

/** A search domain "." alone stands for none. */
export function withoutRoot<T extends object>(naming: T | undefined): T | undefined {
  const dns = (naming as Naming | undefined)?.dns;
  if (dns?.search?.length === 1 && dns.search[0] === ".") dns.search = [];
  return naming;
}

/** "db:192.0.2.1", "db=192.0.2.1", "db:[2001:db8::1]" */
export function host(text: string): Host[] {
  const match = /^([^:=]+)[:=](?:\[([^[\]]+)\]|([^[\]]+))$/.exec(text);
  if (match === null) throw new InvalidArgumentError("write HOST:ADDRESS or HOST=ADDRESS");
  const [, name, bracketed, plain] = match;
  return [{ name: name!, address: bracketed ?? plain! }];
}
