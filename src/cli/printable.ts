// Text of tasks, labels and errors for a person's terminal, which would obey the control characters in it.

/** The control characters of ECMA-48 without the newline: C0, DEL and C1. */
// biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for
const CONTROLS = /[\x00-\x09\x0b-\x1f\x7f-\x9f]/g;
const REPLACEMENT = "\ufffd";

/** Replaces each control character; a tab becomes a blank. Newlines stay. */
export function printable(text: string): string {
  return text.replace(CONTROLS, (character) => (character === "\t" ? " " : REPLACEMENT));
}

/** Indented JSON in which DEL and C1 are escaped too; JSON.stringify escapes C0 alone. */
export function printableJson(value: unknown): string {
  const escaped = (character: string): string => `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`;
  return JSON.stringify(value, null, 2).replace(/[\x7f-\x9f]/g, escaped);
}
