// Names that DNS has for something else: nothing in the cluster can be made with one, for it would not be found by it.

import type { Command } from "../cluster/commands.ts";
import { UserError } from "../lib/errors.ts";

/** By name, what it is in DNS. */
const RESERVED: ReadonlyMap<string, string> = new Map([
  ["tasks", "the names of a service's tasks begin with it"],
  ["ns", "it is the name of the name server"],
  ["arpa", "the reverse names of addresses end with it"], // RFC 3172
  ["localhost", "every host has it for itself"], // RFC 6761 section 6.3
  ["invalid", "no host may have it"], // RFC 6761 section 6.4
  ["onion", "it belongs to Tor"], // RFC 7686
]);
/** Those that reserve all names under them too. */
const TOP_LEVEL: ReadonlySet<string> = new Set(["arpa", "localhost", "invalid", "onion"]);

/** What inet_aton(3), and so most programs, read as an address; and SERVICE.SLOT is a task. */
const NUMBER = /(^|\.)(\d+|0x[0-9a-f]+)$/i;

/** `domain`: what every name of the cluster is found under. Throws UserError 400. */
export function requireUnreserved(command: Command, domain: string): void {
  for (const { name, field } of namesOf(command)) {
    const fault = faultOf(name, domain);
    if (fault !== undefined) throw new UserError(400, fault, { field });
    if (NUMBER.test(name) && command.type !== "network.create")
      throw new UserError(400, `no program would find '${name}': programs read it as an address, or as a task`, {
        field,
      });
  }
}

/** The command without the name that Docker gives its container, when that name is reserved: the container is not found by it. */
export function withoutReserved(command: Command, domain: string): Command {
  if (command.type !== "attach") return command;
  const isFree = (name: string) => faultOf(name, domain) === undefined && !(name.includes(".") && NUMBER.test(name));
  return { ...command, hostNames: command.hostNames.filter(isFree) };
}

function faultOf(name: string, domain: string): string | undefined {
  const lower = name.toLowerCase();
  const labels = lower.split(".");
  const last = labels.at(-1)!;
  const isUnder = (other: string) => lower === other || lower.endsWith(`.${other}`);
  const own = isUnder(domain.toLowerCase()) ? "it is in the cluster's domain" : undefined;
  const reason = own ?? RESERVED.get(lower) ?? (TOP_LEVEL.has(last) ? RESERVED.get(last) : undefined);
  if (reason !== undefined) return `'${name}' is a name of DNS itself: ${reason}`;
  if (labels.length === 1) return undefined;
  if (labels[0] === "tasks") return `'${name}' is a name of DNS itself: ${RESERVED.get("tasks")}`;
  return lower.startsWith("_")
    ? `'${name}' is a name of DNS itself: the names of a service's ports begin like it (RFC 2782)`
    : undefined;
}

interface Named {
  name: string;
  field: string;
}

/** The names that a command would give. A container's name in Docker was not chosen for the overlay: it is left out. */
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
