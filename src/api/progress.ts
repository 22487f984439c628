// The progress of a service, answered as soon as it differs from what the client has seen.
import { createHash } from "node:crypto";
import type { AppliedChange } from "../cluster/state.ts";
import type { State } from "../cluster/tables.ts";
import type { Backend } from "./backend.ts";
import type { ProgressQuery, ProgressView, TaskView } from "./schema.ts";
import { get, tasksOf, taskView } from "./views.ts";

/** How long changes are collected before the progress is looked at. */
const COLLECT_MS = 100;
/** How often the progress of tasks that are being prepared is looked at: no change of the state shows it. */
const PREPARING_MS = 1000;

type Source = Pick<Backend, "state" | "onChanges" | "progress">;

/** Resolves to the progress when it is not the one of the token `unless`, at the latest after `waitMs`. Throws UserError 404. */
export function nextProgress(backend: Source, word: string, { unless, waitMs }: ProgressQuery): Promise<ProgressView> {
  const { id } = get(backend.state(), "services", word);
  return new Promise((resolve, reject) => {
    let collecting: NodeJS.Timeout | undefined;
    let preparing: NodeJS.Timeout | undefined;
    const look = (isLast: boolean): void => {
      clearTimeout(collecting);
      clearTimeout(preparing);
      collecting = undefined;
      try {
        const view = progressView(backend, id);
        if (isLast || view.token !== unless) end(() => resolve(view));
        else if (view.tasks.some(isPreparing)) preparing = setTimeout(() => look(false), PREPARING_MS);
      } catch (error) {
        end(() => reject(error));
      }
    };
    const end = (settle: () => void): void => {
      stopListening();
      clearTimeout(collecting);
      clearTimeout(preparing);
      clearTimeout(deadline);
      settle();
    };
    const deadline = setTimeout(() => look(true), waitMs);
    const stopListening = backend.onChanges((changes) => {
      if (!changes.some((change) => concerns(backend.state(), id, change))) return;
      collecting ??= setTimeout(() => look(false), COLLECT_MS);
    });
    look(waitMs === 0);
  });
}

function concerns({ tasks }: State, serviceId: string, change: AppliedChange): boolean {
  if (change.kind === "services") return change.key === serviceId;
  if (change.kind === "tasks") return (change.row ?? change.before)?.serviceId === serviceId;
  if (change.kind === "statuses") return tasks.get(change.key)?.serviceId === serviceId;
  return change.kind === "nodes"; // one that is down runs no task
}

function progressView(backend: Source, serviceId: string): ProgressView {
  const state = backend.state();
  const service = get(state, "services", serviceId);
  const scheduled = tasksOf(state, service).filter(({ attachment }) => attachment === null);
  const views = scheduled.map((task) => taskView(state, task));
  const progress = backend.progress(views.filter(isPreparing).map(({ id }) => id));
  const tasks = views.map((task) => ({ ...task, message: progress.get(task.id) ?? task.message }));
  const provesReady = service.ports.some(({ protocol }) => protocol === "tcp");
  const view = { replicas: service.replicas, tasks, provesReady };
  const token = createHash("sha256").update(JSON.stringify(view)).digest("base64url");
  return { revision: state.revision, ...view, token };
}

function isPreparing({ state, message }: TaskView): boolean {
  return state === "preparing" && message !== null;
}
