// An experiment: the same measurement of several contenders in turn, A B A B, round after round. The first contender
// is the one that is judged, the second is its reference, any others stand beside.
import type { Group } from "./options.ts";
import { type Interval, medianInterval, pairRatios, type Summary, summarize } from "./statistics.ts";

/** Values by metric. */
export type Sample = Readonly<Record<string, number>>;

export interface Contender {
  name: string;
  measure(): Promise<Sample>;
}

/** The bar that a figure must meet, and the aim that is wished for. */
export interface Limit {
  /** Whether the ratio to the reference is limited, or the value itself. */
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
  /** Has no ratio: the reference may be zero. */
  alone?: true;
  limit?: Limit;
}

export interface Experiment {
  group: Group;
  title: string;
  metrics: readonly Metric[];
  contenders: readonly Contender[];
  /** Number of rounds, whatever the options say: the experiment cannot be repeated at will. */
  rounds?: number;
  /** Why no further round can be made; undefined while it can. Asked after each round. */
  cutShort?(): string | undefined;
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
  /** Holds the median of such ratios with 95 %; null where there are too few rounds, or no ratio. */
  interval: Interval | null;
  limit: Limit | null;
  verdict: Verdict | null;
  samples: readonly number[];
}

/** Numbers of rounds. */
export interface Repetition {
  rounds: number;
  /** Rounds where a ratio is near its bar; at least `rounds`. */
  nearBar: number;
}

export async function runExperiment(experiment: Experiment, { rounds, nearBar }: Repetition): Promise<Row[]> {
  const { contenders, rounds: fixed, cutShort, before, after } = experiment;
  const samples = contenders.map((): Sample[] => []);
  const measureUntil = async (count: number): Promise<Row[]> => {
    while (samples[0]!.length < count && (samples[0]!.length === 0 || cutShort?.() === undefined)) {
      for (const [i, contender] of contenders.entries()) samples[i]!.push(await contender.measure());
    }
    return rowsOf(experiment, samples);
  };
  await before?.();
  try {
    const rows = await measureUntil(fixed ?? rounds);
    return fixed !== undefined || !rows.some(isNearBar) ? rows : await measureUntil(nearBar);
  } finally {
    await after?.();
  }
}

/** Whether some rounds meet the row's bar and others do not, and the bar is of a ratio. */
export function isNearBar({ limit, ratio }: Pick<Row, "limit" | "ratio">): boolean {
  return limit?.of === "ratio" && ratio !== null && ratio.min < limit.bar && limit.bar < ratio.max;
}

/** `samples` by contender and round. */
export function rowsOf(experiment: Experiment, samples: readonly (readonly Sample[])[]): Row[] {
  const { group, title, metrics, contenders } = experiment;
  return metrics.flatMap(({ id, unit, digits, alone, limit }) => {
    const valuesOf = (i: number): number[] => samples[i]!.map((sample) => valueIn(sample, id, title));
    const reference = contenders.length > 1 && alone === undefined ? valuesOf(1) : undefined;
    // Agents whose flows all go in the express lane may take no time that the kernel's ticks show.
    const hasNone = limit?.of !== "ratio" && reference?.includes(0);
    return contenders.map((contender, i): Row => {
      const values = valuesOf(i);
      const value = summarize(values);
      const ratios = reference === undefined || i === 1 || hasNone ? null : pairRatios(values, reference);
      const ratio = ratios === null ? null : summarize(ratios);
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
        interval: ratios === null ? null : medianInterval(ratios),
        limit: judged,
        verdict: judged === null ? null : judge(judged, value, ratio),
        samples: values,
      };
    });
  });
}

/** Judges the median: a bar that only the best round meets is missed. */
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
