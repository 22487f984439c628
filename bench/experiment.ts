// An experiment: the same measurement of several contenders in turn, A B A B, round after round. The first contender
// is the one that is judged, the second what it is held against, any others stand beside.
import type { Group } from "./options.ts";
import { pairRatios, type Summary, summarize } from "./statistics.ts";

/** Values by metric. */
export type Sample = Readonly<Record<string, number>>;

export interface Contender {
  name: string;
  measure(): Promise<Sample>;
}

/** What the issue of the data path asks of a figure: the bar must be met, the aim is what we want. */
export interface Limit {
  /** Of the ratio to the reference, or of the value itself. */
  of: "ratio" | "value";
  /** Whether less is better. */
  atMost: boolean;
  bar: number;
  aim: number;
}

export interface Metric {
  id: string;
  unit: string;
  digits: number;
  /** No ratio is told: the reference may be zero. */
  alone?: true;
  limit?: Limit;
}

export interface Experiment {
  group: Group;
  title: string;
  metrics: readonly Metric[];
  contenders: readonly Contender[];
  before?(): Promise<void>;
  after?(): Promise<void>;
}

export type Verdict = "met" | "missed" | "aim met";

/** One metric of one contender over all rounds. */
export interface Row {
  group: Group;
  experiment: string;
  metric: string;
  unit: string;
  digits: number;
  contender: string;
  value: Summary;
  /** To the reference of the same round; null for the reference itself, and where there is none. */
  ratio: Summary | null;
  limit: Limit | null;
  verdict: Verdict | null;
  samples: readonly number[];
}

export async function runExperiment(experiment: Experiment, rounds: number): Promise<Row[]> {
  const { contenders, before, after } = experiment;
  const samples = contenders.map((): Sample[] => []);
  await before?.();
  try {
    for (let round = 0; round < rounds; round++) {
      for (const [i, contender] of contenders.entries()) samples[i]!.push(await contender.measure());
    }
  } finally {
    await after?.();
  }
  return rowsOf(experiment, samples);
}

/** `samples` by contender and round. */
export function rowsOf(experiment: Experiment, samples: readonly (readonly Sample[])[]): Row[] {
  const { group, title, metrics, contenders } = experiment;
  return metrics.flatMap(({ id, unit, digits, alone, limit }) => {
    const valuesOf = (i: number): number[] => samples[i]!.map((sample) => valueIn(sample, id, title));
    const reference = contenders.length > 1 && alone === undefined ? valuesOf(1) : undefined;
    return contenders.map((contender, i): Row => {
      const values = valuesOf(i);
      const value = summarize(values);
      const ratio = reference === undefined || i === 1 ? null : summarize(pairRatios(values, reference));
      const judged = i === 0 ? (limit ?? null) : null;
      return {
        group,
        experiment: title,
        metric: id,
        unit,
        digits,
        contender: contender.name,
        value,
        ratio,
        limit: judged,
        verdict: judged === null ? null : judge(judged, value, ratio),
        samples: values,
      };
    });
  });
}

export function judge(limit: Limit, value: Summary, ratio: Summary | null): Verdict {
  const found = limit.of === "value" ? value.median : ratio?.median;
  if (found === undefined) throw new Error("a limit of a ratio needs a reference");
  const holds = (wanted: number): boolean => (limit.atMost ? found <= wanted : found >= wanted);
  if (holds(limit.aim)) return "aim met";
  return holds(limit.bar) ? "met" : "missed";
}

function valueIn(sample: Sample, id: string, title: string): number {
  const value = sample[id];
  if (value === undefined || !Number.isFinite(value)) throw new Error(`${title}: no figure for '${id}'`);
  return value;
}
