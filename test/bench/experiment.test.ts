// Experiments: the order of measurements, ratios of rounds, and verdicts.
import test from "ava";
import {
  type Experiment,
  judge,
  type Limit,
  runExperiment,
  type Sample,
  type Verdict,
} from "../../bench/experiment.ts";

const AT_LEAST: Limit = { of: "ratio", atMost: false, bar: 0.5, aim: 0.6 };
const AT_MOST: Limit = { of: "ratio", atMost: true, bar: 1.45, aim: 1.2 };
const VALUE: Limit = { of: "value", atMost: true, bar: 200, aim: 150 };

const ONCE = { rounds: 1, nearBar: 1 };

const spread = (median: number) => ({ median, min: median, max: median });

const VERDICTS: [title: string, limit: Limit, value: number, ratio: number, verdict: Verdict][] = [
  ["below the bar", AT_LEAST, 1, 0.49, "missed"],
  ["on the bar", AT_LEAST, 1, 0.5, "met"],
  ["on the aim", AT_LEAST, 1, 0.6, "aim met"],
  ["above what it may be at most", AT_MOST, 1, 1.46, "missed"],
  ["below the bar where less is better", AT_MOST, 1, 1.3, "met"],
  ["a value, whatever its ratio", VALUE, 201, 0.1, "missed"],
  ["a value within the aim", VALUE, 150, 9, "aim met"],
];
for (const [title, limit, value, ratio, verdict] of VERDICTS) {
  test(`the verdict on ${title} is '${verdict}'`, (t) => {
    t.is(judge(limit, spread(value), spread(ratio)), verdict);
  });
}

test("a limit of a ratio without a reference is a mistake", (t) => {
  t.throws(() => judge(AT_LEAST, spread(1), null));
});

/** Contenders that give these samples one after another; `calls` says who was asked when. */
function experimentOf(samples: Record<string, Sample[]>, calls: string[], extra: Partial<Experiment> = {}): Experiment {
  return {
    group: "tcp",
    title: "an experiment",
    metrics: [{ id: "throughput", unit: "Gbit/s", digits: 2, limit: AT_LEAST }],
    contenders: Object.entries(samples).map(([name, left]) => ({
      name,
      measure: async () => {
        calls.push(name);
        return left.shift()!;
      },
    })),
    ...extra,
  };
}

const of = (...values: number[]): Sample[] => values.map((throughput) => ({ throughput }));

test("contenders take turns, and ratios are of the same round", async (t) => {
  const calls: string[] = [];
  const experiment = experimentOf({ ours: of(1, 3, 2), reference: of(2, 3, 8), other: of(4, 6, 8) }, calls);
  const rows = await runExperiment(experiment, { rounds: 3, nearBar: 3 });
  t.is(calls.join(" "), "ours reference other ours reference other ours reference other");
  const [ours, reference, other] = rows;
  t.deepEqual(ours?.value, { median: 2, min: 1, max: 3 });
  t.deepEqual(ours?.ratio, { median: 0.5, min: 0.25, max: 1 });
  t.is(ours?.verdict, "met");
  t.is(reference?.ratio, null);
  t.is(reference?.verdict, null);
  t.deepEqual(other?.ratio, { median: 2, min: 1, max: 2 });
  t.is(other?.verdict, null);
});

const PAIRS: [title: string, values: number[], limit: Limit, extra: Partial<Experiment>, rounds: number][] = [
  ["some rounds are above the bar and some below", [4, 6, 5, 5, 5, 5], AT_LEAST, {}, 6],
  ["all rounds are above the bar", [6, 7, 5, 5, 5, 5], AT_LEAST, {}, 2],
  ["all rounds are below the bar", [4, 3, 5, 5, 5, 5], AT_LEAST, {}, 2],
  ["the bar is of the value itself", [150, 250, 5, 5, 5, 5], VALUE, {}, 2],
  ["it cannot be repeated", [4, 6, 5, 5, 5, 5], AT_LEAST, { rounds: 1 }, 1],
  ["it has rounds of its own", [4, 6, 5, 5, 5, 5], AT_LEAST, { rounds: 3 }, 3],
  ["it is cut short", [4, 6, 5, 5, 5, 5], AT_LEAST, { rounds: 3, cutShort: () => "no time is left" }, 1],
];
for (const [title, values, limit, extra, rounds] of PAIRS) {
  test(`where ${title}, there are ${rounds} of at most 6 rounds`, async (t) => {
    const samples = { ours: of(...values), reference: of(10, 10, 10, 10, 10, 10) };
    const metrics = [{ id: "throughput", unit: "", digits: 0, limit }];
    const experiment = experimentOf(samples, [], { metrics, ...extra });
    const [row] = await runExperiment(experiment, { rounds: 2, nearBar: 6 });
    t.is(row?.samples.length, rounds);
    t.is(row?.interval === null, rounds < 6);
  });
}

test("a metric that stands alone has no ratio", async (t) => {
  const metrics: Experiment["metrics"] = [{ id: "throughput", unit: "", digits: 0, alone: true }];
  const [row] = await runExperiment(experimentOf({ ours: of(1), reference: of(0) }, [], { metrics }), ONCE);
  t.is(row?.ratio, null);
});

test("a figure whose reference was zero in a round has no ratio, unless a bar is of the ratio", async (t) => {
  const metrics: Experiment["metrics"] = [{ id: "throughput", unit: "", digits: 0 }];
  const samples = () => ({ ours: of(1, 0), reference: of(2, 0) });
  const [row] = await runExperiment(experimentOf(samples(), [], { metrics }), { rounds: 2, nearBar: 2 });
  t.is(row?.ratio, null);
  const [judged] = await runExperiment(experimentOf(samples(), []), ONCE);
  t.is(judged?.verdict, "met");
});

test("what an experiment changed is changed back also when it fails", async (t) => {
  const calls: string[] = [];
  const experiment = experimentOf({ ours: of(1), reference: [{}] }, calls, {
    before: async () => void calls.push("before"),
    after: async () => void calls.push("after"),
  });
  await t.throwsAsync(runExperiment(experiment, ONCE), { message: "an experiment: no figure for 'throughput'" });
  t.is(calls.join(" "), "before ours reference after");
});
