// What a container's labels ask of the agent: to be attached to a network, and to be a task of a service.
//   overlayd.network=web   overlayd.service=search   overlayd.publish=9200:9200,53:53/udp   overlayd.alias=a,b
//   overlayd.name=db       overlayd.ip=10.192.16.9   overlayd.node=node1
import type { AskedPortInput } from "../cluster/commands.ts";
import { Alias, DottedName, Name } from "../cluster/schema.ts";
import { messageOf } from "../lib/errors.ts";
import { parseIpv4 } from "../lib/ip.ts";
import { didYouMean } from "../lib/nearest.ts";
import { type PortWords, parsePublishedPorts } from "../lib/published-ports.ts";
import { isOwn, NODE_LABEL } from "../runtime/container-options.ts";

const PREFIX = "overlayd.";
const ASKING = ["network", "service", "publish", "alias", "name", "ip", "node"] as const;
type Asking = (typeof ASKING)[number];

/** What a person or a label asks for a container or network namespace. */
export interface AttachmentSpec {
  /** null: the service's network, or `default`. */
  network: string | null;
  service: string | null;
  ports: AskedPortInput[];
  name: string | null;
  aliases: string[];
  address: string | null;
}

/** Labels that make no sense. */
export class LabelError extends Error {
  override name = "LabelError";
}

/** undefined: the labels ask for nothing. `node`: the name of the node whose agent is asked; null: each agent is. */
export function asksFor(labels: Readonly<Record<string, string>>): { node: string | null } | undefined {
  if (isOwn(labels)) return undefined;
  const asks = Object.keys(labels).some((key) => key.startsWith(PREFIX));
  return asks ? { node: labels[NODE_LABEL] ?? null } : undefined;
}

/** Throws LabelError. */
export function readLabels(labels: Readonly<Record<string, string>>): AttachmentSpec {
  const own = Object.entries(labels).filter(([key]) => key.startsWith(PREFIX));
  const values: Partial<Record<Asking, string>> = {};
  for (const [key, value] of own) {
    const word = ASKING.find((known) => PREFIX + known === key);
    if (word === undefined) {
      throw new LabelError(
        `there is no label '${key}'${didYouMean(
          key,
          ASKING.map((known) => PREFIX + known),
        )}`,
      );
    }
    if (value.trim() === "") throw new LabelError(`label ${key} is empty`);
    values[word] = value.trim();
  }
  if (values.network === undefined && values.service === undefined) {
    throw new LabelError(`label ${own[0]?.[0]} needs ${PREFIX}network or ${PREFIX}service beside it`);
  }
  if (values.publish !== undefined && values.service === undefined) {
    throw new LabelError(`label ${PREFIX}publish needs ${PREFIX}service beside it`);
  }
  if (values.name !== undefined && values.service !== undefined) {
    throw new LabelError(`label ${PREFIX}name is not for a task of a service: ${PREFIX}alias is`);
  }
  if (values.ip !== undefined && parseIpv4(values.ip) === undefined) {
    throw new LabelError(`label ${PREFIX}ip: '${values.ip}' is not an IPv4 address`);
  }
  return {
    network: values.network ?? null,
    service: values.service === undefined ? null : checked("service", values.service, Name),
    ports: publishedIn(values.publish),
    name: values.name === undefined ? null : checked("name", values.name, DottedName),
    aliases: listOf(values.alias).map((alias) => checked("alias", alias, Alias)),
    address: values.ip ?? null,
  };
}

function listOf(text: string | undefined): string[] {
  return text === undefined ? [] : text.split(",").map((part) => part.trim());
}

/** Reads several ports in the short form, or one in the long form, which has commas itself. */
function publishedIn(text: string | undefined): PortWords[] {
  return text?.includes("=") ? portsOf(text) : listOf(text).flatMap(portsOf);
}

function portsOf(text: string): PortWords[] {
  try {
    return parsePublishedPorts(text);
  } catch (error) {
    throw new LabelError(`label ${PREFIX}publish: '${text}': ${messageOf(error)}`, { cause: error });
  }
}

function checked(word: Asking, value: string, schema: typeof Name): string {
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  throw new LabelError(`label ${PREFIX}${word}: '${value}': ${result.error.issues[0]!.message}`);
}
