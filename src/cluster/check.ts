// A caller's input against its schema: the checked value, or an error that names the field.
import type { z } from "zod";
import { UserError } from "../lib/errors.ts";

/** Throws UserError 400 for the first field that is wrong. */
export function check<T>(schema: z.ZodType<T>, input: unknown): T {
  const result = schema.safeParse(input);
  if (result.success) return result.data;
  const issue = result.error.issues[0]!;
  const field = issue.path.join(".");
  throw new UserError(400, field === "" ? issue.message : `${field}: ${issue.message}`, field === "" ? {} : { field });
}
