// Puts the figures of bench/results.json into docs/benchmarks.md, between its two markers: one section a group. The
// sections of groups that were not measured stay as they are, so that a page can be made of several runs.
import { readFileSync, writeFileSync } from "node:fs";
import { GROUPS, type Group } from "./options.ts";
import { formatMarkdown } from "./report.ts";
import { describeRun, type Results, readResults } from "./results.ts";

const DOCUMENT = "docs/benchmarks.md";
const BEGIN = "<!-- figures: npm run bench -- --document -->";
const END = "<!-- end of figures -->";
const HEADING = "### ";

export function documentResults(): void {
  writeFileSync(DOCUMENT, withFigures(readFileSync(DOCUMENT, "utf8"), readResults()));
}

/** `text` with the sections of the groups that `results` has replaced. Throws when `text` has no markers. */
export function withFigures(text: string, results: Results): string {
  const begin = text.indexOf(BEGIN);
  const end = text.indexOf(END);
  if (begin < 0 || end < begin) throw new Error(`${DOCUMENT} has lost its markers '${BEGIN}' and '${END}'`);
  const bodies = bodiesByGroup(text.slice(begin + BEGIN.length, end));
  for (const group of groupsOf(results)) bodies.set(group, bodyOf(results, group));
  const sections = GROUPS.flatMap((group) => {
    const body = bodies.get(group);
    return body === undefined ? [] : [`${HEADING}${group}\n${body}\n\n`];
  });
  return `${text.slice(0, begin + BEGIN.length)}\n${sections.join("")}${text.slice(end)}`;
}

/** The text under each heading. Throws when a heading is no group's, or text stands before the first one. */
function bodiesByGroup(figures: string): Map<Group, string> {
  const [before, ...sections] = `\n${figures}`.split(`\n${HEADING}`);
  if (before!.trim() !== "") throw new Error(`${DOCUMENT}: the figures do not begin with '${HEADING}GROUP'`);
  return new Map(
    sections.map((section) => {
      const [heading, ...lines] = section.split("\n");
      const group = GROUPS.find((known) => known === heading);
      if (group === undefined) throw new Error(`${DOCUMENT}: '${HEADING}${heading}' is no group of figures`);
      return [group, lines.join("\n").trim()];
    }),
  );
}

function groupsOf({ rows, failures }: Results): Set<Group> {
  return new Set([...rows, ...failures].map(({ group }) => group));
}

function bodyOf(results: Results, group: Group): string {
  const rows = results.rows.filter((row) => row.group === group);
  const failures = results.failures.filter((failure) => failure.group === group);
  return [
    describeRun(results),
    ...(rows.length === 0 ? [] : ["", formatMarkdown(rows).trimEnd()]),
    ...failures.flatMap(({ experiment, reason }) => ["", `Not measured: ${experiment}: ${reason}`]),
  ].join("\n");
}
