// The log of one of this node's tasks, for the local API.
import type { Readable } from "node:stream";
import type { LogFilter } from "../api/schema.ts";
import type { State } from "../cluster/schema.ts";
import { UserError } from "../lib/errors.ts";
import { AwayError, RejectedError } from "../runtime/runtime.ts";
import type { AnyRuntime } from "../runtime/runtimes.ts";

/** Throws UserError. */
export async function taskLog(
  state: State,
  runtime: Pick<AnyRuntime, "logs">,
  id: string,
  filter: LogFilter,
): Promise<Readable> {
  const task = state.tasks.get(id);
  if (task === undefined) throw new UserError(404, `there is no task ${id}`);
  try {
    const workload = state.services.get(task.serviceId)?.workload ?? null;
    const log = await runtime.logs({ id, workload }, filter);
    if (log !== undefined) return log;
  } catch (error) {
    if (error instanceof RejectedError) throw new UserError(400, error.message, { cause: error });
    if (error instanceof AwayError) throw new UserError(503, error.message, { cause: error });
    throw error;
  }
  throw new UserError(404, `task ${id} has no log on this node`);
}
