// The express lane's own figures, measured in their quick form; and the bars that a run with the lane is judged by.
import test from "ava";
import { type Row, runExperiment } from "../../bench/experiment.ts";
import { expressExperiments } from "../../bench/express.ts";
import { LANE_ENTRIES, whyLaneIsOff } from "../../bench/lane.ts";
import { wayLimits } from "../../bench/limits.ts";
import { whatBpfLacks } from "../../src/linux/bpf-probe.ts";
import { bpfTest } from "../fakes/bpf-test.ts";

const ONCE = { rounds: 1, nearBar: 1 };

bpfTest("each figure of the group is measured, and all are above nothing", async (t) => {
  const rows: Row[] = [];
  for (const experiment of expressExperiments({ quick: true })) rows.push(...(await runExperiment(experiment, ONCE)));
  t.deepEqual(
    [...new Set(rows.map(({ experiment, metric }) => `${experiment}: ${metric}`))],
    [
      "flows enter and leave the lane, one worker: entering",
      "flows enter and leave the lane, one worker: leaving",
      "4096 entries are scanned: CPU",
      "memory of the maps, 524288 entries: in the kernel",
      "a run of a program on a TCP segment of 100 bytes: a hit",
      "a run of a program on a TCP segment of 100 bytes: a miss",
    ],
  );
  t.true(rows.every(({ value }) => value.median > 0));
  t.is(rows.length, 3 + 3 + 2 + 1 + 4 + 4);
});

bpfTest("the maps of the default size stay below their bar", async (t) => {
  const [row] = await runExperiment(expressExperiments({ quick: true })[2]!, ONCE);
  t.is(row!.verdict, "aim met", `${row!.value.median} Mbyte for ${LANE_ENTRIES} entries`);
});

test("where bpf lacks something, each figure is left out with what it lacks", async (t) => {
  for (const experiment of expressExperiments({ quick: true }, "the process lacks CAP_BPF")) {
    await t.throwsAsync(runExperiment(experiment, ONCE), {
      message: "there is no express lane here: the process lacks CAP_BPF (see docs/express.md)",
    });
  }
});

test("the lane is off by the agents' settings, or by what the machine lacks", (t) => {
  t.is(whyLaneIsOff({ datapath: { express: "off" } }), "'datapath.express' is off");
  t.is(whyLaneIsOff({ datapath: { express: "auto" } }), whatBpfLacks());
});

test("with the lane on no bar is lower than without, and figures have one that were only told", (t) => {
  const [off, on] = [wayLimits(false), wayLimits(true)];
  for (const [figure, limit] of Object.entries(off)) {
    if (figure === "priority") continue; // of the agents' own way alone
    const lane = on[figure as keyof typeof on]!;
    t.is(`${lane.of} ${lane.atMost}`, `${limit.of} ${limit.atMost}`);
    t.true(limit.atMost ? lane.bar <= limit.bar : lane.bar >= limit.bar, figure);
  }
  t.deepEqual([off.oneNode, off.lossless, off.agentsCpu], [undefined, undefined, undefined]);
  t.is(on.priority, undefined);
  t.deepEqual([on.oneNode?.bar, on.lossless?.bar, on.agentsCpu?.bar, on.p50.bar], [1, 0.9, 0.2, 0.95]);
});
