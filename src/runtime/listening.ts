// Whether a process listens on a TCP port of a network namespace, seen through any process in it: proc_net_tcp(5).
import { readFile } from "node:fs/promises";
import { type Clock, delay } from "../lib/clock.ts";

/** A program that does not listen by then may never. */
const DEADLINE_MS = 10_000;
const LOOK_MS = 20;
/** A state of a socket, as the kernel prints it. */
const TCP_LISTEN = "0A";

/** Resolves when a process listens on one of the ports, or has had time enough to; at once when `ports` is empty. */
export async function untilListening(clock: Clock, pid: number, ports: readonly number[]): Promise<void> {
  const deadline = clock.monotonic() + DEADLINE_MS;
  while (ports.length > 0 && !(await isListening(pid, ports)) && clock.monotonic() < deadline)
    await delay(clock, LOOK_MS);
}

/** Whether a process listens on one of the ports in the namespace of the process `pid`; false when that is gone. */
export async function isListening(pid: number, ports: readonly number[]): Promise<boolean> {
  const tables = await Promise.all([tableOf(pid, "tcp"), tableOf(pid, "tcp6")]);
  return tables.some((table) => ports.some((port) => hasListener(table, port)));
}

/** Lines of the table: slot, local ADDRESS:PORT in hex, remote, state and more. */
export function hasListener(table: string, port: number): boolean {
  return table.split("\n").some((line) => {
    const [, local = "", , state] = line.trim().split(/\s+/);
    return state === TCP_LISTEN && Number.parseInt(local.slice(local.indexOf(":") + 1), 16) === port;
  });
}

async function tableOf(pid: number, name: string): Promise<string> {
  try {
    return await readFile(`/proc/${pid}/net/${name}`, "utf8");
  } catch {
    return "";
  }
}
