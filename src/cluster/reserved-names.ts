// Names that DNS has for something else: nothing in the cluster can be made with one, for it would not be found by it.
import { UserError } from "../lib/errors.ts";
import type { Command } from "./commands.ts";

/** By name, what it is in DNS. */
const RESERVED: Readonly<Record<string, string>> = {
  tasks: "a service's tasks are named with it",
  ns: "it is the name server's",
  arpa: "it is what addresses are named with", // RFC 3172
  localhost: "it is every host's own", // RFC 6761 section 6.3
  invalid: "it is no name anywhere", // RFC 6761 section 6.4
  onion: "it is Tor's", // RFC 7686
};

/** What inet_aton(3), and so most programs, read as an address. A network's name is never looked up alone. */
const ADDRESS = /^(\d+|0x[0-9a-f]+)$/i;

/** `domain`: what every name of the cluster is found under. Throws UserError 400. */
export function requireUnreserved(command: Command, domain: string): void {
  for (const { name, field } of namesOf(command)) {
    const reason = name.toLowerCase() === domain.toLowerCase() ? "it is the cluster's domain" : reasonOf(name);
    if (reason !== undefined) throw new UserError(400, `'${name}' is a name of DNS itself: ${reason}`, { field });
    if (command.type !== "network.create" && ADDRESS.test(name))
      throw new UserError(400, `'${name}' is found by nobody: programs read it as an address`, { field });
  }
}

function reasonOf(name: string): string | undefined {
  const key = name.toLowerCase();
  return Object.hasOwn(RESERVED, key) ? RESERVED[key] : undefined;
}

interface Named {
  name: string;
  field: string;
}

/** What a command would give a name to. A container's name in Docker is nobody's choice here: it may be not found by it. */
function namesOf(command: Command): Named[] {
  switch (command.type) {
    case "network.create":
      return [{ name: command.name, field: "name" }];
    case "service.create":
      return [{ name: command.name, field: "name" }, ...command.networks.flatMap(({ aliases }) => aliasesOf(aliases))];
    case "endpoint.create":
    case "external.add":
      return ownOf(command.name, "name");
    case "attach":
      return [...ownOf(command.name, "name"), ...ownOf(command.service, "service"), ...aliasesOf(command.aliases)];
    default:
      return [];
  }
}

function ownOf(name: string | null, field: string): Named[] {
  return name === null ? [] : [{ name, field }];
}

function aliasesOf(aliases: readonly string[]): Named[] {
  return aliases.map((name) => ({ name, field: "aliases" }));
}
