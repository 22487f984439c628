// The options that fields of a request come from: an error names what a person typed, not the field that was sent.
import { messageOf, UserError } from "../lib/errors.ts";
import { ATTACH_OPTIONS } from "./attach.ts";
import { EXTERNAL_OPTIONS } from "./external.ts";
import { INIT_OPTIONS } from "./join.ts";
import { NAMING_OPTIONS } from "./naming-options.ts";
import { NETWORK_OPTIONS } from "./network.ts";
import { longName } from "./request-options.ts";
import { CONTAINER_OPTIONS, SERVICE_OPTIONS, WORKLOAD_OPTIONS } from "./service-options.ts";

/** Fields that arguments set. `name` is an option of some commands and an argument of others, so that it stays as it is. */
const ARGUMENTS = new Map([
  ["workload.command", "COMMAND"],
  ["workload.image", "IMAGE"],
  ["manager", "ADDRESS"],
  ["token", "--token"],
  ["name", "name"],
]);

/** The option or argument that sets each field, for the field and all in it; of several options the last one. */
const OPTION_BY_FIELD = new Map([
  ...[
    ...[ATTACH_OPTIONS, EXTERNAL_OPTIONS, NETWORK_OPTIONS, NAMING_OPTIONS],
    ...[SERVICE_OPTIONS, WORKLOAD_OPTIONS, CONTAINER_OPTIONS, INIT_OPTIONS],
  ].flatMap((rows) => rows.map((row) => [row.field as string, longName(row)] as const)),
  ...ARGUMENTS,
]);

/** The error's message; where it begins with a field, the option stands there instead. */
export function messageInOptions(error: unknown): string {
  const message = messageOf(error);
  if (!(error instanceof UserError) || error.field === undefined) return message;
  const { field } = error;
  const prefix = `${field}: `;
  const known = [...OPTION_BY_FIELD.keys()].find((key) => field === key || field.startsWith(`${key}.`));
  if (known === undefined || !message.startsWith(prefix)) return message;
  return `${OPTION_BY_FIELD.get(known)}: ${message.slice(prefix.length)}`;
}
