// overlayctl service logs: what the tasks of a service printed, each line with the name of its task.

import { createInterface } from "node:readline";
import type { Readable } from "node:stream";
import { type Command, InvalidArgumentError } from "commander";
import type { LogFilter, TaskView } from "../api/schema.ts";
import { messageOf, UserError } from "../lib/errors.ts";
import { count, duration } from "./arguments.ts";
import { type Context, ExitStatus } from "./context.ts";

/** How often new tasks of a followed service are looked for. */
const LOOK_MS = 1000;

interface LogsOptions {
  follow?: true;
  tail?: number;
  since?: number;
}

export function addServiceLogs(service: Command, context: Context): void {
  service
    .command("logs <service>")
    .description("show what the tasks of a service printed, on all nodes")
    .option("-f, --follow", "go on with what they print from now on")
    .option("-n, --tail <lines>", "only the last lines of each task: a number, or all", tailOf)
    .option("--since <time>", "only from then: 2026-01-02T13:23:37Z, or 42m ago", (text) => timeOf(text, context.now()))
    .action((name: string, options: LogsOptions) => showLogs(context, name, options));
}

async function showLogs(context: Context, service: string, { follow, tail, since }: LogsOptions): Promise<void> {
  const filter: LogFilter = { follow: follow === true, tail: tail ?? null, since: since ?? null };
  // BOUNDED: by the tasks that the service has had since; keyed by task id.
  const shown = new Map<string, Promise<boolean>>();
  let width = 0;
  const show = async (query: LogFilter): Promise<void> => {
    const tasks = (await context.api().tasks(service)).filter(({ id, node }) => node !== null && !shown.has(id));
    width = Math.max(width, ...tasks.map((task) => labelOf(task).length));
    for (const task of tasks) {
      const notYet = () => shown.delete(task.id);
      shown.set(task.id, showLog(context, task, query, { width, ...(query.follow && { notYet }) }));
    }
  };
  await show(filter);
  // Tasks that come later are followed from their beginning.
  while (filter.follow) {
    await context.pause(LOOK_MS);
    await show({ ...filter, tail: null, since: null });
  }
  if ((await Promise.all(shown.values())).includes(false)) throw new ExitStatus(1);
}

/** `notYet` is called when the task has no log yet; left out: that is an error. */
interface ShowOptions {
  width: number;
  notYet?: () => void;
}

/** Prints the log. Returns false when there is none to print; the reason is printed then. */
async function showLog(
  context: Context,
  task: TaskView,
  filter: LogFilter,
  { width, notYet }: ShowOptions,
): Promise<boolean> {
  const label = labelOf(task);
  try {
    const log: Readable = await context.api().taskLog(task.id, filter);
    for await (const line of createInterface({ input: log })) context.out(`${label.padEnd(width)}    | ${line}\n`);
    return true;
  } catch (error) {
    if (notYet !== undefined && error instanceof UserError && error.code === 404) {
      notYet();
      return true;
    }
    context.err(`${label}: ${messageOf(error)}\n`);
    return false;
  }
}

function labelOf({ name, node }: TaskView): string {
  return `${name}@${node}`;
}

function tailOf(text: string): number | undefined {
  return text === "all" ? undefined : count(text);
}

/** Wall-clock milliseconds of a date, or of `now` less a duration. */
export function timeOf(text: string, now: number): number {
  if (/^\d+(ms|s|m|h)$/.test(text)) return now - duration(text);
  const time = /^\d{4}-/.test(text) ? Date.parse(text) : Number.NaN;
  if (Number.isNaN(time)) throw new InvalidArgumentError("a time is needed: 2026-01-02T13:23:37Z, or 42m ago as 42m");
  return time;
}
