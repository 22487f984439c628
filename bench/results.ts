// bench/results.json: the figures of a run, when it was made, and on what machine.
import { readFileSync, writeFileSync } from "node:fs";
import type { Row } from "./experiment.ts";
import { type Machine, machineText } from "./machine.ts";
import type { BenchOptions, Group } from "./options.ts";

const RESULTS = "bench/results.json";
/** A comparison with another commit is for the terminal, and not for the page. */
const AGAINST_RESULTS = "bench/results-against.json";

/** An experiment that gave no figures, and why. */
export interface Failure {
  group: Group;
  experiment: string;
  reason: string;
}

export interface Results {
  at: string;
  rounds: number;
  secondsEach: number;
  machine: Machine;
  /** What the agents' `datapath` section had besides its defaults. */
  datapath: Readonly<Record<string, number | string>>;
  /** Why no flow of the agents went in the express lane; null: flows went in it. */
  laneIsOff: string | null;
  rows: readonly Row[];
  failures: readonly Failure[];
}

/** The head line of a run: when and where it was made. */
export function describeRun(run: Omit<Results, "rows" | "failures">): string {
  const { at, rounds, secondsEach, machine, laneIsOff } = run;
  const lane = laneIsOff === null ? "on" : `off (${laneIsOff})`;
  return `Measured ${at.slice(0, 10)} on ${machineText(machine)}; ${rounds} rounds of ${secondsEach} s; express lane ${lane}.`;
}

export function resultsPath({ against }: Pick<BenchOptions, "against">): string {
  return against === undefined ? RESULTS : AGAINST_RESULTS;
}

export function writeResults(path: string, results: Results): void {
  writeFileSync(path, `${JSON.stringify(results, null, 2)}\n`);
}

/** Throws when there are none. */
export function readResults(): Results {
  return JSON.parse(readFileSync(RESULTS, "utf8")) as Results;
}
