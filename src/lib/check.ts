// A caller's input against its schema: the checked value, or an error that names the field.
import type { z } from "zod";
import { UserError } from "./errors.ts";

/** Throws UserError 400 for the first field that is wrong. */
export function check<S extends z.ZodType>(schema: S, input: unknown): z.output<S> {
  const result = schema.safeParse(input);
  if (result.success) return result.data;
  const issue = result.error.issues[0]!;
  const isUnknown = issue.code === "unrecognized_keys";
  const field = (isUnknown ? [...issue.path, issue.keys[0]!] : issue.path).join(".");
  const message = isUnknown ? "no such field" : issue.message;
  throw new UserError(400, field === "" ? message : `${field}: ${message}`, field === "" ? {} : { field });
}
