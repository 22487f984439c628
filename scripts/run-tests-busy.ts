// `npm run test:busy`: the suite beside busy loops at nice 0, each in a session of its own, so that the scheduler's
// autogroups give each as much as all of the suite's own session. A test that fails here and not alone asserts a time.
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";

const LOOPS = 4;
const MOST_MINUTES = 60;
/** A loop that ends by itself when the process that it is given is gone: a killed run leaves no loop behind. */
const LOOP = 'while kill -0 "$1" 2>/dev/null; do i=0; while [ $i -lt 100000 ]; do i=$((i + 1)); done; done';

/** Starts a loop in a session of its own (setsid(2)). */
function startLoop(): ChildProcess {
  return spawn("sh", ["-c", LOOP, "busy-loop", `${process.pid}`], { stdio: "ignore", detached: true });
}

const loops = Array.from({ length: LOOPS }, startLoop);
const began = performance.now();
const suite = spawn(process.execPath, [fileURLToPath(new URL("./run-tests.js", import.meta.url))], {
  stdio: "inherit",
});
// The suite ends what it has started, then itself, and then the loops end.
for (const signal of ["SIGINT", "SIGTERM"] as const) process.on(signal, () => suite.kill(signal));
const [status] = (await once(suite, "close")) as [number | null];
for (const loop of loops) loop.kill("SIGKILL");
const minutes = (performance.now() - began) / 60_000;
const verdict = minutes > MOST_MINUTES ? `more than ${MOST_MINUTES}` : `at most ${MOST_MINUTES} are allowed`;
console.log(`# ${minutes.toFixed(1)} minutes beside ${LOOPS} busy loops: ${verdict}`);
process.exitCode = minutes > MOST_MINUTES ? 1 : (status ?? 1);
