// What a manager that was demoted leaves on its disk: its etcd, and its copy of the state. They go once that etcd has ended,
// which it does when the leader has removed it from the members: until then the others may need it to agree on that.
import { rm } from "node:fs/promises";
import { etcdPaths } from "../leader/etcd-command.ts";
import { delay, systemClock } from "../lib/clock.ts";
import { messageOf } from "../lib/errors.ts";
import { exists } from "../lib/exists.ts";
import { isAlive } from "../runtime/process-id.ts";
import { TaskDirectory } from "../runtime/task-directory.ts";
import type { AgentOptions } from "./options.ts";
import type { Part } from "./parts.ts";
import { pathsOf } from "./paths.ts";

const LOOK_MS = 2000;

/** To be called for a worker. */
export function removeManagersStore({ config, log }: Pick<AgentOptions, "config" | "log">): Part {
  const { etcd, copy } = pathsOf(config);
  const stopping = new AbortController();
  const process = new TaskDirectory(etcdPaths(etcd).process);
  const runs = async (): Promise<boolean> => {
    const id = await process.processId();
    return id !== undefined && isAlive(id);
  };
  const remove = async (): Promise<void> => {
    while ((await runs()) && !stopping.signal.aborted) await delay(systemClock, LOOK_MS, stopping.signal);
    if (stopping.signal.aborted || !((await exists(etcd)) || (await exists(copy)))) return;
    // member.json goes first: what is left then is no member any more.
    for (const path of [etcdPaths(etcd).spec, etcd, copy]) await rm(path, { recursive: true, force: true });
    log.info("what this node had of the managers' store is removed: it is a worker", { path: etcd });
  };
  const done = remove().catch((error: unknown) => {
    log.warn("what this node had of the managers' store stays on its disk", { reason: messageOf(error) });
  });
  return {
    async stop() {
      stopping.abort();
      await done;
    },
  };
}
