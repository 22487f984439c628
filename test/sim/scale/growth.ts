// The table that shows how each figure grows with the cluster, and its bars.
import type { Figures } from "./figures.ts";

const BEGIN = "<!-- growth: npm run sim -- --document -->";
const END = "<!-- end of growth -->";
const BAR_P99_MS = 1000;
/** Of one processor, at so many nodes at most. */
const BAR_QUIET = { percent: 5, nodes: 1000 };

const ROWS: readonly (readonly [title: string, digits: number, value: (figures: Figures) => number])[] = [
  ["services", 0, ({ services }) => services],
  ["endpoints", 0, ({ endpoints }) => endpoints],
  ["leader's HTTP server: CPU for a report, us", 0, ({ reportMicros }) => reportMicros],
  ["leader's HTTP server: CPU for a beat, us", 0, ({ beatMicros }) => beatMicros],
  ["leader's HTTP server: CPU for a line to a node, us", 1, ({ lineMicros }) => lineMicros],
  ["changes measured, one a second", 0, ({ changes }) => changes],
  ["from a change to in force everywhere, p50, ms", 1, ({ p50Ms }) => p50Ms],
  ["from a change to in force everywhere, p99, ms", 1, ({ p99Ms }) => p99Ms],
  ["leader's CPU a change, reports of all nodes included, ms", 1, ({ leaderMsAChange }) => leaderMsAChange],
  ["leader's CPU for heartbeats alone, % of one processor", 2, ({ quietPercent }) => quietPercent],
  ["bytes that a node receives, a change", 0, ({ bytesAChange }) => bytesAChange],
  ["node's CPU until a change is in force, ms", 2, ({ nodeInForceMs }) => nodeInForceMs],
  ["node's CPU a change, all of it, ms", 2, ({ nodeMsAChange }) => nodeMsAChange],
  ["leader's heap, Mbyte", 1, ({ leaderMbyte }) => leaderMbyte],
  ["node's heap, Mbyte", 1, ({ nodeMbyte }) => nodeMbyte],
  ["leader's CPU to make a service with its tasks, ms", 2, (f) => (1000 * f.loadSeconds) / f.services],
  ["snapshot for a node, Mbyte", 2, ({ snapshotMbyte }) => snapshotMbyte],
  ["node's CPU to load it, s", 2, ({ nodeLoadSeconds }) => nodeLoadSeconds],
  ["from a new leader's start to in force everywhere, s", 2, ({ newLeaderSeconds }) => newLeaderSeconds],
];

/** Markdown: a column for each size. */
export function formatGrowth(figures: readonly Figures[]): string {
  const line = (cells: readonly string[]): string => `| ${cells.join(" | ")} |\n`;
  return [
    line(["nodes", ...figures.map(({ nodes }) => `${nodes}`)]),
    line(["---", ...figures.map(() => "---")]),
    ...ROWS.map(([title, digits, value]) => line([title, ...figures.map((one) => value(one).toFixed(digits))])),
  ].join("");
}

/** A sentence for each bar that is missed. */
export function missedBars(figures: readonly Figures[]): string[] {
  return figures.flatMap(({ nodes, p99Ms, quietPercent }) => [
    ...(p99Ms < BAR_P99_MS ? [] : [`Missed at ${nodes} nodes: p99 of ${p99Ms.toFixed(0)} ms, bar ${BAR_P99_MS} ms`]),
    ...(nodes > BAR_QUIET.nodes || quietPercent <= BAR_QUIET.percent
      ? []
      : [`Missed at ${nodes} nodes: heartbeats take ${quietPercent.toFixed(1)} %, bar ${BAR_QUIET.percent} %`]),
  ]);
}

/** `text` with everything between the markers replaced. Throws when it has no markers. */
export function withGrowth(text: string, figures: string): string {
  const begin = text.indexOf(BEGIN);
  const end = text.indexOf(END);
  if (begin < 0 || end < begin) throw new Error(`the page has lost its markers '${BEGIN}' and '${END}'`);
  return `${text.slice(0, begin + BEGIN.length)}\n${figures.trimEnd()}\n${text.slice(end)}`;
}
