// Docker's progress of a service, until it converges: drawn in place on a terminal, plain lines elsewhere.
import type { ProgressView, TaskView } from "../api/schema.ts";
import { counted } from "../lib/counted.ts";
import { UserError } from "../lib/errors.ts";
import type { Context } from "./context.ts";
import { printable } from "./printable.ts";

/** How long one call waits for news of the service. */
const NEWS_MS = 30_000;
/** The pause between two calls for the applied barrier, unless there is news. */
const RETRY_MS = 200;
/** How long one call waits for the applied barrier. */
const BARRIER_MS = 1000;
/** How long tasks are watched that are only known to run, as in Docker. */
const STABLE_MS = 5000;
/** With more tasks than this no bars are drawn, only the overall line and failures, as in Docker. */
const MAX_BARS = 20;
const BAR_WIDTH = 50;
/** How far a task is in each state. A state that is not on the way to running has no bar. */
const STEPS: Partial<Record<TaskView["state"], number>> = { pending: 1, preparing: 2, starting: 3, running: 4 };
const LAST_STEP = 4;
const STATE_WIDTH = "preparing".length;

/** Resolves when all tasks of the service run and every node has them in force. Throws when `timeoutMs` pass first. */
export async function awaitConverged(context: Context, service: string, timeoutMs: number | undefined): Promise<void> {
  const screen = new Screen(context);
  const deadline = timeoutMs === undefined ? Number.POSITIVE_INFINITY : context.monotonic() + timeoutMs;
  let runningSince: number | undefined;
  let progress = await context.api().progress(service);
  for (;;) {
    const lines = progressLines(progress);
    let waitsFor = unconverged(progress);
    let waitMs = NEWS_MS;
    runningSince = waitsFor === undefined ? (runningSince ?? context.monotonic()) : undefined;
    const unstableMs = runningSince === undefined ? 0 : untilStable(progress, runningSince, context);
    if (unstableMs > 0) {
      waitsFor = "its tasks have not run for 5 seconds yet";
      waitMs = unstableMs;
      screen.draw([...lines, "verify: waiting 5 seconds to see that tasks are stable"]);
    } else if (waitsFor === undefined) {
      screen.draw([...lines, "verify: waiting until every node has it in force"]);
      waitsFor = await notApplied(context, progress.revision);
      waitMs = RETRY_MS;
      if (waitsFor === undefined) {
        screen.draw([...lines, "verify: Service converged"]);
        return;
      }
      screen.draw([...lines, `verify: ${waitsFor}`]);
    } else {
      screen.draw(lines);
    }
    const leftMs = deadline - context.monotonic();
    if (leftMs <= 0) throw new UserError(503, `not converged in time: ${waitsFor}`);
    const news = { unless: progress.token, waitMs: Math.ceil(Math.min(waitMs, leftMs)) };
    progress = await context.api().progress(service, news);
  }
}

/** How long its tasks, which run, are still watched until they can be expected to go on. */
function untilStable({ tasks, provesReady }: ProgressView, runningSince: number, context: Context): number {
  const now = context.now();
  const wanted = tasks.filter((task) => task.desired === "running");
  if (provesReady || wanted.every(({ since }) => now - since >= STABLE_MS)) return 0;
  return STABLE_MS - (context.monotonic() - runningSince);
}

/** Why not every node has the revision in force; undefined when they have. */
async function notApplied(context: Context, revision: number): Promise<string | undefined> {
  try {
    await context.api().waitApplied({ revision, timeoutMs: BARRIER_MS });
    return undefined;
  } catch (error) {
    if (error instanceof UserError && (error.code === 503 || error.code === 504)) return error.message;
    throw error;
  }
}

/** What is still missing; undefined when the tasks are as asked. */
function unconverged({ replicas, tasks }: ProgressView): string | undefined {
  const wanted = tasks.filter((task) => task.desired === "running");
  const late = wanted.find((task) => !isUp(task));
  if (late?.state === "running") return `${late.name} is running on a node that is down`;
  if (late !== undefined) return `${late.name} is ${late.state}${late.error === null ? "" : `: ${late.error}`}`;
  return wanted.length === replicas
    ? undefined
    : `${wanted.length} out of ${counted(replicas, "task is", "tasks are")} made`;
}

/** The lines to show: the overall one, then one a task. */
export function progressLines({ replicas, tasks }: ProgressView): string[] {
  const wanted = tasks.filter((task) => task.desired === "running");
  const overall = `overall progress: ${wanted.filter(isUp).length} out of ${replicas} tasks`;
  if (replicas > MAX_BARS) return [overall, ...wanted.filter(({ error }) => error !== null).map(failureLine)];
  const slots = Array.from({ length: replicas }, (_, i) => `${i + 1}/${replicas}: ${taskLine(wanted[i])}`);
  return [overall, ...slots];
}

function isUp({ state, nodeReady }: TaskView): boolean {
  return state === "running" && nodeReady;
}

function failureLine({ name, state, error }: TaskView): string {
  return printable(`${name}: ${state}: ${error}`);
}

function taskLine(task: TaskView | undefined): string {
  if (task === undefined) return "new";
  const state = task.state.padEnd(STATE_WIDTH);
  if (task.error !== null && task.state !== "running") return printable(`${state} ${task.error}`);
  if (task.message !== null) return printable(`${state} ${task.message}`);
  const step = STEPS[task.state];
  return step === undefined ? state.trimEnd() : `${state} ${bar(step / LAST_STEP)}`;
}

function bar(done: number): string {
  return `[${`${"=".repeat(Math.round(done * BAR_WIDTH))}>`.padEnd(BAR_WIDTH + 1)}]`;
}

/** Lines that change: a terminal has them redrawn in place, other output gets those that are new. */
class Screen {
  readonly #context: Context;
  // BOUNDED: by MAX_BARS and two, or by a service's tasks that failed; keyed by position.
  #drawn: string[] = [];

  constructor(context: Context) {
    this.#context = context;
  }

  draw(lines: string[]): void {
    const columns = this.#context.columns();
    if (columns === undefined) {
      const drawn = new Set(this.#drawn);
      const plain = lines.map((line) => line.replace(/ \[[=> ]+\]$/, "").trimEnd());
      this.#context.out(
        plain
          .filter((line) => !drawn.has(line))
          .map((line) => `${line}\n`)
          .join(""),
      );
      this.#drawn = plain;
      return;
    }
    // A line that wraps would break the count of lines to go up. Erase each line and what is left below (ECMA-48 EL, ED).
    const up = this.#drawn.length === 0 ? "" : `\x1b[${this.#drawn.length}A`;
    const text = lines.map((line) => `\r\x1b[2K${line.slice(0, columns - 1)}\n`).join("");
    this.#context.out(`${up}${text}\x1b[J`);
    this.#drawn = lines;
  }
}
