// `npm run sim`: how a cluster's costs grow with its size, from 10 nodes to 10,000. Each size is a process of its own, so
// that no heap is another's. Arguments: --quick (the small sizes), --document (the table goes into docs/benchmarks.md).
import { spawnSync } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { parseArgs } from "node:util";
import { describeMachine, machineText } from "../../../bench/machine.ts";
import { inTemporaryDirectory } from "../../../bench/temporary.ts";
import { messageOf } from "../../../src/lib/errors.ts";
import { type Figures, figuresOf, type Size } from "./figures.ts";
import { formatGrowth, missedBars, withGrowth } from "./growth.ts";

const DOCUMENT = "docs/benchmarks.md";
const HEAP_MBYTE = 12_000;
const SIZE_MS = 1_800_000;

const MEASURED = { replicas: 10, changes: 100, quietSeconds: 30, httpReports: 3000, boundMs: 300_000 };
const SIZES: readonly Size[] = [
  { nodes: 10, services: 100, ...MEASURED },
  { nodes: 100, services: 1000, ...MEASURED },
  { nodes: 1000, services: 10_000, ...MEASURED },
  { nodes: 10_000, services: 10_000, ...MEASURED },
];
const QUICK_SIZES = 2;

const OPTIONS = {
  quick: { type: "boolean" },
  document: { type: "boolean" },
  /** The index of one size, for the process that simulates it: its figures are the last line that it prints. */
  size: { type: "string" },
} as const;

async function main(): Promise<number> {
  const { values } = parseArgs({ options: OPTIONS });
  if (values.size !== undefined) {
    const figures = await figuresOf(SIZES[Number(values.size)]!, (text) => console.error(`  ${text}`));
    console.log(JSON.stringify(figures));
    return 0;
  }
  const head = machineText(await inTemporaryDirectory(describeMachine));
  console.log(head);
  const figures: Figures[] = [];
  const failures: string[] = [];
  for (const [i, { nodes, services, replicas }] of SIZES.entries()) {
    if (values.quick && i >= QUICK_SIZES) break;
    const what = `${nodes} nodes, ${services} services, ${services * replicas} endpoints`;
    console.log(what);
    try {
      figures.push(simulate(i));
    } catch (error) {
      failures.push(`Not simulated: ${what}: ${messageOf(error)}`);
      console.log(failures.at(-1));
    }
  }
  const table = formatGrowth(figures);
  const missed = missedBars(figures);
  console.log(`\n${table}\n${[...missed, ...failures].join("\n")}`);
  if (values.document) {
    const day = new Date().toISOString().slice(0, 10);
    const notes = [...missed, ...failures].map((line) => `\n${line}\n`).join("");
    const page = withGrowth(readFileSync(DOCUMENT, "utf8"), `Simulated ${day} on ${head}.\n\n${table}${notes}`);
    writeFileSync(DOCUMENT, page);
  }
  return failures.length === 0 ? 0 : 1;
}

function simulate(index: number): Figures {
  const argv = [`--max-old-space-size=${HEAP_MBYTE}`, process.argv[1]!, "--size", `${index}`];
  const { error, status, stdout } = spawnSync(process.execPath, argv, {
    stdio: ["ignore", "pipe", "inherit"],
    timeout: SIZE_MS,
  });
  if (error !== undefined) throw "code" in error && error.code === "ETIMEDOUT" ? new Error(tooLong()) : error;
  if (status !== 0) throw new Error(`the simulation ended with ${status}`);
  return JSON.parse(stdout.toString()) as Figures;
}

function tooLong(): string {
  return `it was not done in ${SIZE_MS / 60_000} minutes`;
}

process.exitCode = await main();
