// `npm test`: lint, unit tests, then system tests one file at a time (they own namespaces and the machine's attention).
// The last line is `N passed, N failed`, with `, N skipped` when there are any; in CI a skipped test is a failure.
import { spawn, spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { constants } from "node:os";
import { createInterface } from "node:readline";
import { TapReader } from "./tap.ts";

/** Longer than Ava waits for a test (ava.config.js). When Ava itself hangs, this ends the run, so that CI hears of it. */
const SILENCE_MS = 25 * 60_000;
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

async function ava(title: string, argv: readonly string[]): Promise<void> {
  console.log(`# ${title}`);
  // In a process group of its own, so that what hangs can be ended with all that it started.
  const child = spawn("node_modules/.bin/ava", ["--tap", ...argv], {
    stdio: ["ignore", "pipe", "inherit"],
    detached: true,
  });
  const ended = new Promise<number | null>((resolve) => child.on("close", resolve));
  const end = (signal: NodeJS.Signals): boolean => process.kill(-child.pid!, signal);
  // Being in another group, it hears no Ctrl-C.
  const interrupted = async (signal: NodeJS.Signals): Promise<void> => {
    end(signal);
    await ended;
    process.exit(128 + constants.signals[signal]);
  };
  process.on("SIGINT", interrupted).on("SIGTERM", interrupted);
  let last = "";
  const silence = setTimeout(() => {
    count("failed", `${title}: silent for ${SILENCE_MS / 60_000} minutes after '${last}', and ended`);
    end("SIGKILL");
  }, SILENCE_MS);
  const tap = new TapReader((result) => {
    last = result.name;
    count(result.outcome, result.name, result.details);
  });
  for await (const line of createInterface({ input: child.stdout })) {
    silence.refresh();
    tap.read(line);
  }
  tap.end();
  const status = await ended;
  clearTimeout(silence);
  process.off("SIGINT", interrupted).off("SIGTERM", interrupted);
  if (tap.results === 0) count("failed", `${title}: ava ran no tests`);
  else if (status !== 0 && tap.failures === 0) count("failed", `${title}: ava exited with ${status}`);
}

const began = performance.now();
if (existsSync(".git")) lint();
else console.log("# no lint: Biome reads .gitignore through git, and this is no checkout");
await ava("unit tests", ["dist/test/**/*.test.js", "!dist/test/system/**"]);
if (process.getuid?.() === 0) {
  await ava("system tests", ["--concurrency", "1", "dist/test/system/**/*.test.js"]);
} else {
  count("skipped", "skipped: needs root: the system tests");
}
console.log(`# ${Math.round((performance.now() - began) / 1000)} s`);

const skipped = tally.skipped > 0 ? `, ${tally.skipped} skipped` : "";
console.log(`${tally.passed} passed, ${tally.failed} failed${skipped}`);
process.exitCode = tally.failed === 0 ? 0 : 1;
