// An attached container's state, in the words of tasks.
import type { TaskStatus } from "../cluster/schema.ts";
import type { Container } from "../runtime/docker-engine.ts";
import { describeExit } from "../runtime/exit.ts";

export type Seen = Omit<TaskStatus, "taskId" | "nodeId" | "restarts">;

const WELL = { error: null, exitCode: null, message: null } as const;

export function seen(state: Seen["state"], since: number, error: string | null = null): Seen {
  return { ...WELL, state, since, error };
}

/** `listens`: it takes connections, where it has no health check to tell. */
export function containerStatus(container: Container, listens: boolean): Seen {
  const { isRunning, health, startedAt, finishedAt, exitCode, oomKilled } = container;
  if (!isRunning) {
    const { error } = describeExit(exitCode, "", oomKilled);
    return { ...seen(error === null ? "complete" : "failed", Math.max(finishedAt, 0), error), exitCode };
  }
  if (health === "unhealthy") return seen("failed", startedAt, "its health check fails");
  if (health === "starting") return { ...seen("starting", startedAt), message: "its health check has not passed yet" };
  return seen(health === "healthy" || listens ? "running" : "starting", startedAt);
}
