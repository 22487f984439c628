// Reads the words of options that describe a container: mounts, sizes, labels, files of variables.
import { readFileSync } from "node:fs";
import { InvalidArgumentError } from "commander";
import { messageOf } from "../lib/errors.ts";
import { didYouMean } from "../lib/nearest.ts";
import { variable } from "./arguments.ts";

const MOUNT_FORM = "write type=bind,source=/path,target=/path[,readonly], or type=volume or type=tmpfs";
/** Docker's other names of a mount's fields. */
const MOUNT_FIELDS: Record<string, string> = {
  type: "type",
  source: "source",
  src: "source",
  target: "target",
  destination: "target",
  dst: "target",
  readonly: "readonly",
  ro: "readonly",
  "tmpfs-size": "tmpfs-size",
};
const UNITS = ["b", "k", "m", "g", "t"];

interface MountWords {
  type: "bind" | "volume" | "tmpfs";
  source: string | null;
  target: string;
  readOnly: boolean;
  sizeBytes: number | null;
}

/** Reads Docker's `--mount`. */
export function mount(text: string): MountWords[] {
  const fields = new Map<string, string>();
  for (const part of text.split(",")) {
    const [word = "", ...rest] = part.split("=");
    const key = word.toLowerCase();
    const name = Object.hasOwn(MOUNT_FIELDS, key) ? MOUNT_FIELDS[key] : undefined;
    if (name === undefined)
      throw new InvalidArgumentError(`'${word}' is not known${didYouMean(word, Object.keys(MOUNT_FIELDS))}`);
    if (rest.length === 0 && name !== "readonly")
      throw new InvalidArgumentError(`'${word}' has no value: ${MOUNT_FORM}`);
    fields.set(name, rest.length === 0 ? "true" : rest.join("="));
  }
  const { type = "volume", source = null, target, readonly = "false" } = Object.fromEntries(fields);
  if (type !== "bind" && type !== "volume" && type !== "tmpfs")
    throw new InvalidArgumentError(
      `type '${type}' is none of bind, volume, tmpfs${didYouMean(type, ["bind", "volume", "tmpfs"])}`,
    );
  if (target === undefined) throw new InvalidArgumentError(`the target is missing: ${MOUNT_FORM}`);
  if (!["true", "false", "1", "0"].includes(readonly))
    throw new InvalidArgumentError(`readonly is true or false, not '${readonly}'`);
  const size = fields.get("tmpfs-size");
  const sizeBytes = size === undefined ? null : bytes(size);
  return [{ type, source, target, readOnly: readonly === "true" || readonly === "1", sizeBytes }];
}

/** "512m", "1.5G", "64MiB": powers of 1024, as Docker has it. */
export function bytes(text: string): number {
  const match = /^(\d+(?:\.\d+)?)\s*([bkmgt]?)(?:i?b)?$/i.exec(text);
  if (match === null) throw new InvalidArgumentError("a number and a unit are needed: 512m, 2g");
  return Math.floor(Number(match[1]) * 1024 ** Math.max(0, UNITS.indexOf(match[2]!.toLowerCase())));
}

/** "0.5" */
export function cpus(text: string): number {
  if (!/^\d+(\.\d+)?$|^\.\d+$/.test(text)) throw new InvalidArgumentError("a number of CPUs is needed: 0.5, 2");
  return Number(text);
}

/** "KEY=VALUE", or "KEY" with an empty value. */
export function label(text: string): [key: string, value: string][] {
  const [key = "", ...rest] = text.split("=");
  if (key === "") throw new InvalidArgumentError("write KEY=VALUE");
  return [[key, rest.join("=")]];
}

/** Reads a file of variables, one a line; a line that begins with # is a comment. */
export function variablesFile(path: string, environment: NodeJS.ProcessEnv): [key: string, value: string][] {
  let text: string;
  try {
    text = readFileSync(path, "utf8");
  } catch (error) {
    throw new InvalidArgumentError(messageOf(error));
  }
  return text
    .split(/\r?\n/)
    .map((line) => line.trimStart())
    .filter((line) => line !== "" && !line.startsWith("#"))
    .flatMap((line) => {
      if (/^[^=]*\s/.test(line)) throw new InvalidArgumentError(`${path}: a blank in the name of '${line}'`);
      return variable(line, environment);
    });
}

/** Splits a command line where a shell would; quotes keep words together. */
export function commandLine(text: string): string[] {
  const found: string[] = [];
  let word: string | undefined;
  for (const [part, escaped, single, double] of text.matchAll(/\\(.)|'([^']*)'|"((?:[^"\\]|\\.)*)"|\s+|[^\s]/gs)) {
    if (/^\s+$/.test(part)) {
      if (word !== undefined) found.push(word);
      word = undefined;
    } else if (part === "'" || part === '"') {
      throw new InvalidArgumentError(`a quote is not closed: ${text}`);
    } else {
      word = (word ?? "") + (escaped ?? single ?? double?.replace(/\\(["\\$`])/g, "$1") ?? part);
    }
  }
  if (word !== undefined) found.push(word);
  return found;
}
