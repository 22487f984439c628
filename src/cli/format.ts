// Durations, sizes, ids and ports in Docker's words.
import type { PortView } from "../api/schema.ts";

const SHORT_ID = 12;
const COMMAND_WIDTH = 30;
const ERROR_WIDTH = 30;
const HOUR = 3600;
const DAY = 24 * HOUR;
const WEEK = 7 * DAY;
const MONTH = 30 * DAY;
const YEAR = 365 * DAY;

/** "About a minute", "3 hours": the words and limits of docker/go-units' HumanDuration. */
export function formatDuration(ms: number): string {
  const seconds = Math.floor(ms / 1000);
  if (seconds < 1) return "Less than a second";
  if (seconds === 1) return "1 second";
  if (seconds < 60) return `${seconds} seconds`;
  const minutes = Math.floor(seconds / 60);
  if (minutes === 1) return "About a minute";
  if (minutes < 60) return `${minutes} minutes`;
  const hours = Math.round(ms / 1000 / HOUR);
  if (hours === 1) return "About an hour";
  if (hours < 48) return `${hours} hours`;
  const whole = hours * HOUR;
  if (whole < 2 * WEEK) return `${Math.floor(whole / DAY)} days`;
  if (whole < 2 * MONTH) return `${Math.floor(whole / WEEK)} weeks`;
  if (whole < 2 * YEAR) return `${Math.floor(whole / MONTH)} months`;
  return `${Math.floor(seconds / YEAR)} years`;
}

/** "3 minutes ago"; a time in the future is now. */
export function formatAgo(since: number, now: number): string {
  return `${formatDuration(Math.max(0, now - since))} ago`;
}

/** "1.23MB": four digits at most, powers of 1000. */
export function formatBytes(bytes: number): string {
  let value = bytes;
  let unit = 0;
  const units = ["B", "kB", "MB", "GB", "TB", "PB"];
  while (value >= 1000 && unit < units.length - 1) {
    value /= 1000;
    unit++;
  }
  return `${Number(value.toPrecision(4))}${units[unit]}`;
}

export function shortId(id: string, truncate: boolean): string {
  return truncate ? id.slice(0, SHORT_ID) : id;
}

/** "*:9200->9200/tcp, *:53->53/udp" */
export function formatPorts(ports: readonly PortView[]): string {
  const runs: { first: PortView; last: PortView }[] = [];
  for (const port of ports) {
    const run = runs.at(-1);
    if (run !== undefined && goesOn(run.first, run.last, port)) run.last = port;
    else runs.push({ first: port, last: port });
  }
  const range = (from: number, to: number): string => (from === to ? `${from}` : `${from}-${to}`);
  return runs
    .map(({ first, last }) => {
      const target = range(first.target, last.target);
      return `${first.address ?? "*"}:${range(first.published, last.published)}->${target}/${first.protocol}`;
    })
    .join(", ");
}

/** Whether the port is the next of a range, whose targets are a range too or one port. */
function goesOn(first: PortView, last: PortView, port: PortView): boolean {
  const isSame = (["protocol", "mode", "address"] as const).every((key) => first[key] === port[key]);
  if (!isSame || port.published !== last.published + 1) return false;
  const isToOne = first.target === last.target && port.target === first.target;
  const isToNext = last.target - first.target === last.published - first.published && port.target === last.target + 1;
  return isToOne || isToNext;
}

/** The command as a person would type it; words that a shell would split are quoted. */
export function formatCommand(command: readonly string[], truncate: boolean): string {
  const text = command
    .map((word) => (/^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`))
    .join(" ");
  return cut(text, COMMAND_WIDTH, truncate);
}

/** The error in quotes; nothing when there is none. */
export function formatError(error: string | null, truncate: boolean): string {
  return error === null ? "" : `"${cut(error, ERROR_WIDTH, truncate)}"`;
}

function cut(text: string, width: number, truncate: boolean): string {
  return truncate && text.length > width ? `${text.slice(0, width - 1)}…` : text;
}

/** The name of the image; for a process its command. */
export function formatWorkload(row: { image: string | null; command: readonly string[] }, truncate: boolean): string {
  return row.image ?? formatCommand(row.command, truncate);
}

/** "Running" */
export function capital(word: string): string {
  return word.slice(0, 1).toUpperCase() + word.slice(1);
}
