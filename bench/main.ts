// `npm run bench`: sets up nodes and containers in network namespaces, measures side by side, and takes all down again.
import { messageOf, PlatformError, UserError } from "../src/lib/errors.ts";
import { documentResults } from "./document.ts";
import { type Row, runExperiment } from "./experiment.ts";
import { whyLaneIsOff } from "./lane.ts";
import { describeMachine } from "./machine.ts";
import { type BenchOptions, parseOptions, USAGE } from "./options.ts";
import { installPackages } from "./packages.ts";
import { profile } from "./profile.ts";
import { formatRows } from "./report.ts";
import { describeRun, type Failure, resultsPath, writeResults } from "./results.ts";
import { setUp, type Teardown } from "./set-up.ts";
import { inTemporaryDirectory } from "./temporary.ts";

const PROFILE_PREFIX = "bench";

const teardown: Teardown = [];

async function main(options: BenchOptions): Promise<number> {
  if (options.document) {
    documentResults();
    return 0;
  }
  if (process.getuid?.() !== 0) {
    throw new PlatformError("the bench makes network namespaces, which needs root", "sudo npm run bench");
  }
  await installPackages(options);
  if (options.profile !== undefined) {
    await profile(options.profile, { prefix: PROFILE_PREFIX, options, teardown });
    return 0;
  }
  const { rounds, nearBar, seconds, datapath } = options;
  const head = {
    at: new Date().toISOString(),
    rounds,
    secondsEach: seconds,
    machine: await inTemporaryDirectory(describeMachine),
    datapath,
    laneIsOff: whyLaneIsOff(options) ?? null,
  };
  console.log(describeRun(head));
  const rows: Row[] = [];
  const failures: Failure[] = [];
  try {
    for await (const experiment of setUp(options, teardown)) {
      const { group, title } = experiment;
      const fail = (reason: string): void => {
        failures.push({ group, experiment: title, reason });
        console.error(`not measured, or not all of it: ${reason}`);
      };
      console.log(`\n# ${title}`);
      try {
        const measured = await runExperiment(experiment, { rounds, nearBar });
        process.stdout.write(formatRows(measured));
        rows.push(...measured);
        const reason = experiment.cutShort?.();
        if (reason !== undefined) fail(reason);
      } catch (error) {
        fail(messageOf(error));
      }
    }
  } catch (error) {
    // What the next experiments need cannot be set up. The figures so far are kept.
    if (rows.length === 0) throw error;
    const { group } = rows.at(-1)!;
    failures.push({ group, experiment: "all that follows", reason: messageOf(error) });
  }
  const path = resultsPath(options);
  writeResults(path, { ...head, rows, failures });
  console.log(`\n${describeRun(head)}\n${formatRows(rows)}`);
  const judged = rows.filter(({ verdict }) => verdict !== null);
  const missed = judged.filter(({ verdict }) => verdict === "missed");
  console.log(
    `bench: ${judged.length} bars, ${missed.length} missed, ${failures.length} figures not measured; ${path} has the samples`,
  );
  for (const { experiment, reason } of failures) console.log(`not measured: ${experiment}: ${reason}`);
  return failures.length === 0 ? 0 : 1;
}

async function takeDown(): Promise<void> {
  for (const step of teardown.splice(0).reverse()) await step();
}

/** The exit status: 0 all was measured (bars met or not), 1 something could not be, 2 wrong arguments. */
async function runMain(): Promise<number> {
  let options: BenchOptions;
  try {
    options = parseOptions(process.argv.slice(2));
  } catch (error) {
    console.error(`${messageOf(error)}\n${USAGE}`);
    return 2;
  }
  try {
    return await main(options);
  } catch (error) {
    console.error(isForAPerson(error) ? messageOf(error) : error);
    return 1;
  } finally {
    await takeDown();
  }
}

/** Whether the message alone says what is wrong. */
function isForAPerson(error: unknown): boolean {
  return error instanceof PlatformError || error instanceof UserError || !(error instanceof Error);
}

for (const signal of ["SIGINT", "SIGTERM"] as const) {
  process.once(signal, () => {
    console.error(`${signal}: taking the namespaces down`);
    void takeDown().finally(() => process.exit(1));
  });
}
process.exitCode = await runMain();
