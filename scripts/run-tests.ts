// `npm test`: lint, unit tests, then system tests, which own namespaces: in two rows side by side, each one file at a time, for
// most of their time they wait for leases, elections and back-offs.
// The last line is `N passed, N failed`, with `, N skipped` when there are any; in CI a skipped test is a failure.
import { spawn, spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { availableParallelism, constants } from "node:os";
import { createInterface } from "node:readline";
import { TapReader } from "./tap.ts";

/** The second row. Each file of it has labs of its own and needs no Docker, so that it runs beside any file of the first. */
const SECOND =
  "{certificates,damaged,dns,elsewhere,external-etcd,failover,isolation,join,lost-managers,managers,members,move,refused,standby}";
/** Longer than Ava waits for a test (ava.config.js). When Ava itself hangs, this ends the run, so that CI hears of it. */
const SILENCE_MS = 25 * 60_000;
/**
 * System tests of flows that agents carry for long: they run a second time with the express lane off, as on a machine without one. The
 * agent's own path is also what unit tests have, and what system tests of frames and of external VTEPs see: twice the whole suite
 * would find little more. `OVERLAYD_TEST_LANE=off npm test` is all of it with the lane off.
 */
const WITHOUT_LANE = "dist/test/system/{path,restart,scaling}.test.js";
const inCi = process.env.CI === "true";
const tally = { passed: 0, failed: 0, skipped: 0 };

function count(outcome: keyof typeof tally, name: string, details: readonly string[] = []): void {
  const counted = outcome === "skipped" && inCi ? "failed" : outcome;
  tally[counted]++;
  const word = { passed: "ok", failed: "not ok", skipped: "skipped" }[counted];
  console.log(`${word.padEnd(7)} ${name}${counted === outcome ? "" : " (skipped, which CI does not allow)"}`);
  for (const line of details) console.log(`        ${line}`);
}

function lint(): void {
  console.log("# lint");
  const { status, stdout, stderr } = spawnSync("node_modules/.bin/biome", ["check", "--error-on-warnings", "."], {
    encoding: "utf8",
  });
  if (status === 0) count("passed", "lint");
  else count("failed", "lint: run `npm run format`", `${stdout}${stderr}`.trimEnd().split("\n"));
}

/** The process groups that run, each with what resolves at its end. */
const running = new Map<number, Promise<unknown>>();
for (const signal of ["SIGINT", "SIGTERM"] as const)
  process.on(signal, async () => {
    // Being in other groups, they hear no Ctrl-C.
    for (const group of running.keys()) process.kill(-group, signal);
    await Promise.all(running.values());
    process.exit(128 + constants.signals[signal]);
  });

/** `prefix`: before the names of the tests, in the environment with `env`. */
async function ava(title: string, argv: readonly string[], { prefix = "", env = {} } = {}): Promise<void> {
  console.log(`# ${title}`);
  // In a process group of its own, so that what hangs can be ended with all that it started.
  const child = spawn("node_modules/.bin/ava", ["--tap", ...argv], {
    stdio: ["ignore", "pipe", "inherit"],
    env: { ...process.env, ...env },
    detached: true,
  });
  const ended = new Promise<number | null>((resolve) => child.on("close", resolve));
  running.set(child.pid!, ended);
  let last = "";
  const silence = setTimeout(() => {
    count("failed", `${title}: silent for ${SILENCE_MS / 60_000} minutes after '${last}', and ended`);
    process.kill(-child.pid!, "SIGKILL");
  }, SILENCE_MS);
  const tap = new TapReader((result) => {
    last = result.name;
    count(result.outcome, `${prefix}${result.name}`, result.details);
  });
  for await (const line of createInterface({ input: child.stdout })) {
    silence.refresh();
    tap.read(line);
  }
  tap.end();
  const status = await ended;
  clearTimeout(silence);
  running.delete(child.pid!);
  if (tap.results === 0) count("failed", `${title}: ava ran no tests`);
  else if (status !== 0 && tap.failures === 0) count("failed", `${title}: ava exited with ${status}`);
}

async function systemTests(): Promise<void> {
  const serial = (title: string, files: readonly string[], options = {}) =>
    ava(title, ["--concurrency", "1", ...files], options);
  const files = `dist/test/system/${SECOND}.test.js`;
  const second = () => serial("system tests of the second row", [files]);
  const first = async () => {
    await serial("system tests", ["dist/test/system/**/*.test.js", `!${files}`]);
    if (process.env.OVERLAYD_TEST_LANE !== undefined) return;
    const off = { prefix: "lane off: ", env: { OVERLAYD_TEST_LANE: "off" } };
    await serial("system tests with the express lane off", [WITHOUT_LANE], off);
  };
  if (availableParallelism() > 1) await Promise.all([first(), second()]);
  else for (const run of [first, second]) await run();
}

const began = performance.now();
if (existsSync(".git")) lint();
else console.log("# no lint: Biome reads .gitignore through git, and this is no checkout");
await ava("unit tests", ["dist/test/**/*.test.js", "!dist/test/system/**"]);
if (process.getuid?.() === 0) {
  await systemTests();
} else {
  count("skipped", "skipped: needs root: the system tests");
}
console.log(`# ${Math.round((performance.now() - began) / 1000)} s`);

const skipped = tally.skipped > 0 ? `, ${tally.skipped} skipped` : "";
console.log(`${tally.passed} passed, ${tally.failed} failed${skipped}`);
process.exitCode = tally.failed === 0 ? 0 : 1;
