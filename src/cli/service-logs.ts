// overlayctl service logs: what the tasks of a service printed, each line with the name of its task.

import { createInterface } from "node:readline";
import type { Readable } from "node:stream";
import { type Command, InvalidArgumentError } from "commander";
import type { LogFilter, TaskView } from "../api/schema.ts";
import { messageOf } from "../lib/errors.ts";
import { count, duration } from "./arguments.ts";
import { type Context, ExitStatus } from "./context.ts";

interface LogsOptions {
  follow?: true;
  tail?: number;
  since?: number;
}

export function addServiceLogs(service: Command, context: Context): void {
  service
    .command("logs <service>")
    .description("show what the tasks of a service on this node printed")
    .option("-f, --follow", "go on with what they print from now")
    .option("-n, --tail <lines>", "at most so many of the last lines of each", tailOf)
    .option("--since <time>", "only from then: 2026-01-02T13:23:37Z, or 42m ago", (text) => timeOf(text, context.now()))
    .action((name: string, options: LogsOptions) => showLogs(context, name, options));
}

async function showLogs(context: Context, service: string, { follow, tail, since }: LogsOptions): Promise<void> {
  const [tasks, { node }] = await Promise.all([context.api().tasks(service), context.api().status()]);
  const here = tasks.filter((task) => task.node === node);
  for (const task of tasks) {
    if (task.node !== null && task.node !== node)
      context.err(`${labelOf(task)}: its log is on ${task.node}; ask overlayctl there\n`);
  }
  const filter: LogFilter = { follow: follow === true, tail: tail ?? null, since: since ?? null };
  const width = Math.max(0, ...here.map((task) => labelOf(task).length));
  const results = await Promise.all(here.map((task) => showLog(context, task, filter, width)));
  if (results.includes(false)) throw new ExitStatus(1);
}

/** False when it cannot be shown, which was said then. */
async function showLog(context: Context, task: TaskView, filter: LogFilter, width: number): Promise<boolean> {
  const label = labelOf(task);
  try {
    const log: Readable = await context.api().taskLog(task.id, filter);
    for await (const line of createInterface({ input: log })) context.out(`${label.padEnd(width)}    | ${line}\n`);
    return true;
  } catch (error) {
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

/** Wall-clock milliseconds of a date, or of so long before `now`. */
export function timeOf(text: string, now: number): number {
  if (/^\d+(ms|s|m|h)$/.test(text)) return now - duration(text);
  const time = /^\d{4}-/.test(text) ? Date.parse(text) : Number.NaN;
  if (Number.isNaN(time)) throw new InvalidArgumentError("a time is needed: 2026-01-02T13:23:37Z, or 42m ago as 42m");
  return time;
}
