// Two builds side by side: experiments of either are paired, and a commit that is none is refused.
import test from "ava";
import { type Experiment, runExperiment } from "../../bench/experiment.ts";
import { againstOther, hasAllPackages, nameOfThisTree, OtherBuild } from "../../bench/other-build.ts";

const METRICS: Experiment["metrics"] = [
  { id: "throughput", unit: "Gbit/s", digits: 2, limit: { of: "ratio", atMost: false, bar: 0.5, aim: 0.6 } },
  { id: "p50", unit: "us", digits: 2, limit: { of: "value", atMost: true, bar: 5, aim: 1 } },
  { id: "failed", unit: "requests", digits: 0, alone: true },
  {
    ...{ id: "agents' CPU", unit: "us", digits: 0, alone: true },
    limit: { of: "value", atMost: true, bar: 0.2, aim: 0.05 },
  },
];

function experiment(title: string, side: string, calls: string[], throughput: number): Experiment {
  const sample = { throughput, p50: 10 / throughput, failed: 0, "agents' CPU": 4 };
  return {
    group: "tcp",
    title,
    metrics: METRICS,
    contenders: [
      {
        name: "overlayd",
        measure: async () => {
          calls.push(`${side} ${title}`);
          return sample;
        },
      },
      { name: "kernel VXLAN", measure: async () => ({ throughput: 1000 }) },
    ],
    before: async () => void calls.push(`${side} prepares`),
    after: async () => void calls.push(`${side} tidies up`),
  };
}

test("the same figure of two builds is measured in turn, each with its own preparation", async (t) => {
  const calls: string[] = [];
  const [paired, ...rest] = againstOther(
    { name: "this", experiments: [experiment("TCP", "own", calls, 8), experiment("new", "own", calls, 1)] },
    { name: "abc", experiments: [experiment("TCP", "other", calls, 10)] },
  );
  t.deepEqual(rest, []);
  const rows = await runExperiment(paired!, { rounds: 1, nearBar: 1 });
  const pair = ["own prepares", "own TCP", "own tidies up", "other prepares", "other TCP", "other tidies up"];
  t.deepEqual(calls, pair);
  t.deepEqual(
    rows.map(({ metric, contender, ratio, verdict }) => [metric, contender, ratio?.median ?? null, verdict]),
    [
      ["throughput", "this", 0.8, "missed"],
      ["throughput", "abc", null, null],
      ["p50", "this", 1.25, "missed"],
      ["p50", "abc", null, null],
      ["failed", "this", null, null],
      ["failed", "abc", null, null],
      ["agents' CPU", "this", 1, null],
      ["agents' CPU", "abc", null, null],
    ],
  );
});

const LOCK = { "": { version: "1.0.0" }, "node_modules/zod": { version: "4.6.7" } };
const LOCKS: [title: string, other: Record<string, { version: string }>, shared: boolean][] = [
  ["the same packages", LOCK, true],
  ["fewer packages", { "": { version: "0.9.0" } }, true],
  ["a package more", { ...LOCK, "node_modules/yaml": { version: "2.9.1" } }, false],
  ["another version", { ...LOCK, "node_modules/zod": { version: "4.6.6" } }, false],
];
for (const [title, other, shared] of LOCKS) {
  test(`a commit with ${title} ${shared ? "shares the packages of" : "has packages apart from"} this tree`, (t) => {
    t.is(hasAllPackages(JSON.stringify({ packages: LOCK }), JSON.stringify({ packages: other })), shared);
  });
}

const NO_COMMITS = ["no-such-branch", "HEAD~100000", "--all", "HEAD:package.json"];
for (const name of NO_COMMITS) {
  test(`'${name}' is no commit to measure against, and the message says so`, async (t) => {
    const error = await t.throwsAsync(OtherBuild.of(name));
    // Where the tests run without the repository, that is what is said.
    t.regex(error!.message, /is no commit of this repository|needs this tree's git repository/);
    t.true(error!.message.includes(name) || error!.name === "PlatformError");
  });
}

test("this tree is named by its commit, and the changed files are counted", async (t) => {
  const name = await nameOfThisTree().catch((error: Error) => error.message);
  t.regex(name, /^[0-9a-f]{12}( and \d+ changed files?)?$|git/);
});
