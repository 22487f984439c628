// Bounds of what nodes and clients send: no string, list or map of theirs is longer than its schema says.
import { z } from "zod";
import { shortened } from "./shortened.ts";

/** The id of a row of the cluster's state, or of a sandbox. */
export const Id = z
  .string()
  .max(25, "not an id")
  .regex(/^[0-9a-z]{25}$/, "not an id");

/** Text that a client sends; longer text is refused. */
export function text(max: number): z.ZodString {
  return z.string().max(max, `at most ${max} characters`);
}

export function list<T extends z.ZodType>(item: T, max: number): z.ZodArray<T> {
  return z.array(item).max(max, `at most ${max} of them`);
}

export function map<K extends z.ZodString, V extends z.ZodType>(key: K, value: V, max: number): z.ZodRecord<K, V> {
  return z.record(key, value).check((context) => {
    if (Object.keys(context.value as object).length <= max) return;
    context.issues.push({ code: "custom", input: context.value, message: `at most ${max} of them` });
  });
}

/** Free text of a node; longer text is cut off, because the rest of its report counts. */
export function words(max: number) {
  return z.string().transform((value) => shortened(value, max));
}

/** A list that keeps its first `max` items; a longer list is cut off. */
export function firstOf<T extends z.ZodType>(item: T, max: number) {
  return z.array(item).transform((items) => items.slice(0, max));
}

/** Characters of a name, an id or the beginning of one. */
export const MAX_WORD = 255;
/** Characters of a reason. */
export const MAX_REASON = 1000;
/** The PATH_MAX of Linux. */
export const MAX_PATH = 4096;
/** The MAX_ARG_STRLEN of Linux. */
export const MAX_ARGUMENT = 131_072;
export const MAX_ARGUMENTS = 10_000;
/** Ports of a service, which may publish ranges. */
export const MAX_PORTS = 65_536;
export const MAX_NETWORKS = 64;
export const MAX_ALIASES = 100;
export const MAX_CONSTRAINTS = 100;
export const MAX_CONSTRAINT = 256;
export const MAX_NODES = 10_000;
