// Puts the figures of bench/results.json into docs/benchmarks.md, between its two markers.
import { readFileSync, writeFileSync } from "node:fs";
import { formatMarkdown } from "./report.ts";
import { type Results, readResults } from "./results.ts";

const DOCUMENT = "docs/benchmarks.md";
const BEGIN = "<!-- figures: npm run bench -- --document -->";
const END = "<!-- end of figures -->";

export function documentResults(): void {
  writeFileSync(DOCUMENT, withFigures(readFileSync(DOCUMENT, "utf8"), readResults()));
}

/** `text` with everything between the markers replaced. Throws when it has no markers. */
export function withFigures(text: string, results: Results): string {
  const begin = text.indexOf(BEGIN);
  const end = text.indexOf(END);
  if (begin < 0 || end < begin) throw new Error(`${DOCUMENT} has lost its markers '${BEGIN}' and '${END}'`);
  return `${text.slice(0, begin + BEGIN.length)}\n${figures(results)}\n${text.slice(end)}`;
}

function figures({ at, rounds, secondsEach, machine, rows, failures }: Results): string {
  const { cpu, cores, memoryGigabytes, kernel, node, systemCallNanoseconds } = machine;
  return [
    `Measured ${at.slice(0, 10)} on ${cores} cores of ${cpu}, ${memoryGigabytes} GB, Linux ${kernel}, Node.js ${node};`,
    `${rounds} rounds of ${secondsEach} s; a system call takes ${systemCallNanoseconds} ns from JavaScript.`,
    "",
    formatMarkdown(rows),
    ...failures.map(({ experiment, reason }) => `Not measured: ${experiment}: ${reason}`),
  ].join("\n");
}
