// Gives the connections of a task that is to stop time to end, and no more than they need.
import { type Clock, delay } from "../lib/clock.ts";
import { type Ipv4, ipv4 } from "../lib/ip.ts";

const LOOK_MS = 250;

interface TaskDrainOptions {
  clock: Clock;
  /** How many flows go to one of these addresses. */
  liveFlows(addresses: readonly Ipv4[]): Promise<number>;
}

/** Resolves when none of the task's connections is left, or `graceMs` are over. */
export async function drainTask(
  { clock, liveFlows }: TaskDrainOptions,
  addresses: readonly string[],
  graceMs: number,
): Promise<void> {
  const deadline = clock.monotonic() + graceMs;
  while (clock.monotonic() < deadline && (await liveFlows(addresses.map(ipv4))) > 0) await delay(clock, LOOK_MS);
}
