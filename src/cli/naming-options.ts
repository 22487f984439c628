// Docker's options of what a container is called and where it looks for names: --hostname, --add-host, --dns and so on.
import { type Command, InvalidArgumentError } from "commander";
import type { OpenSandbox } from "../api/schema.ts";
import { collect, words } from "./arguments.ts";

export type NamingWords = NonNullable<OpenSandbox["naming"]>;
type HostWords = NonNullable<NamingWords["hosts"]>[number];

export interface NamingOptions {
  hostname?: string;
  addHost?: HostWords[];
  dns?: string[];
  dnsSearch?: string[];
  dnsOption?: string[];
}

export function addNamingOptions(command: Command): Command {
  return command
    .option("--hostname <name>", "hostname of each container")
    .option("--add-host <host:ip>", "add a line to its /etc/hosts; the address may be host-gateway", collect(host))
    .option("--dns <address>", "ask this name server for names that are not the overlay's", collect(words))
    .option("--dns-search <domain>", "a search domain instead of the node's; '.' alone: none", collect(words))
    .option("--dns-option <option>", "an option of resolv.conf instead of the node's, such as ndots:2", collect(words));
}

/** undefined: none was given. */
export function namingOf(options: NamingOptions): NamingWords | undefined {
  const { hostname, addHost, dns, dnsSearch, dnsOption } = options;
  if ([hostname, addHost, dns, dnsSearch, dnsOption].every((option) => option === undefined)) return undefined;
  const search = dnsSearch?.length === 1 && dnsSearch[0] === "." ? [] : dnsSearch;
  return { hostname, hosts: addHost, dns: { servers: dns, search, options: dnsOption } };
}

/** "db:192.0.2.1", "db=192.0.2.1", "db:[2001:db8::1]" */
export function host(text: string): HostWords[] {
  const match = /^([^:=]+)[:=](?:\[([^[\]]+)\]|([^[\]]+))$/.exec(text);
  if (match === null) throw new InvalidArgumentError("write HOST:ADDRESS or HOST=ADDRESS");
  const [, name, bracketed, plain] = match;
  return [{ name: name!, address: bracketed ?? plain! }];
}
