// A manager that leads in a newer epoch: one that took over by hand, recovered or was made of an export. The older leader
// asks the other managers before it leads and while it does, those that a person had it join by among them, and gives way.
import { isNewerEpoch } from "../cluster/identity.ts";
import { managersOf } from "../cluster/managers.ts";
import type { ClusterIdentity } from "../cluster/schema.ts";
import type { EmbeddedStore } from "../leader/embedded-store.ts";
import type { Leader } from "../leader/leader.ts";
import type { ManagerReport } from "../leader/manager-protocol.ts";
import { type Clock, delay } from "../lib/clock.ts";
import { counted } from "../lib/counted.ts";
import type { ManagerOptions } from "./manager-options.ts";

const ASK_MS = 2000;
const PERIOD_MS = 2000;
/** Managers are asked no more often, however often nodes say that there is a newer epoch. */
const LEAST_MS = 250;
/** Commits that the log names one by one. */
const MOST_NAMED = 100;

export type Successor = ManagerReport & { cluster: ClusterIdentity };

type Asking = Pick<ManagerOptions, "calls" | "state" | "self" | "identity">;

/** The manager that leads the same cluster in a newer epoch than `own`; undefined: none that answers does. */
export async function findSuccessor(
  { calls, state, self, identity }: Asking,
  own: ClusterIdentity,
): Promise<Successor | undefined> {
  const current = state();
  if (current === undefined) return undefined;
  const others = new Set([...managersOf(current), ...identity.managers]);
  others.delete(self);
  const reports = await Promise.all([...others].map((manager) => calls.report(manager, ASK_MS).catch(() => undefined)));
  return reports.find((report): report is Successor => {
    const cluster = report?.cluster;
    return report?.role === "leader" && cluster != null && isNewerEpoch(cluster, own);
  });
}

/** Asks the other managers every 2 s, and at once when there is reason to. */
export class SuccessorWatch {
  readonly #asking: Asking;
  readonly #clock: Clock;
  /** Aborted when there is reason to ask. */
  #reason = new AbortController();

  constructor(asking: Asking, clock: Clock) {
    this.#asking = asking;
    this.#clock = clock;
  }

  /**
   * A node or standby says that it follows a newer epoch. Anyone of the cluster can say so: a leader gives way only to the manager
   * itself, which answers with its certificate that it leads.
   */
  askNow(): void {
    this.#reason.abort();
  }

  /** Resolves with the first that is found. Never resolves after `signal` has aborted. */
  async find(own: () => ClusterIdentity, signal: AbortSignal): Promise<Successor> {
    while (!signal.aborted) {
      await delay(this.#clock, LEAST_MS, signal);
      await delay(this.#clock, PERIOD_MS - LEAST_MS, AbortSignal.any([signal, this.#reason.signal]));
      this.#reason = new AbortController();
      const found = signal.aborted ? undefined : await findSuccessor(this.#asking, own());
      if (found !== undefined) return found;
    }
    return new Promise(() => {});
  }
}

/**
 * Gives the state away to the manager that took over. What that one had not copied is in an export on this manager's disk,
 * and each commit of it in the log; all of the state is in one when that is not known, for a cluster that was imported.
 * `leader` is the one that has just stopped; undefined: it ran in an earlier agent.
 */
export async function giveWayTo(
  { exports, log }: Pick<ManagerOptions, "exports" | "log">,
  file: EmbeddedStore,
  { node, cluster, tookOver }: Successor,
  leader: Leader | undefined,
): Promise<void> {
  const state = await file.load();
  const since = tookOver?.revision;
  const lost = since === undefined ? undefined : Math.max(0, state.revision - since);
  const path = lost === 0 ? undefined : await exports.write("given-way", state);
  log.warn("another manager leads in a newer epoch, and this one gives way", {
    node,
    ...(lost === undefined ? {} : { count: lost }),
    ...(path === undefined ? {} : { path, reason: `${notCopied(lost)}: the export has all of this one's state` }),
  });
  const commits = since === undefined ? undefined : leader?.copies.commitsAfter(since);
  for (const { revision, changes } of commits?.slice(0, MOST_NAMED) ?? []) {
    const rows = changes.map(({ kind, key, row }) => `${row === null ? "removed " : ""}${kind} ${key}`).join(", ");
    log.warn("a commit that was not copied", { revision, reason: rows });
  }
  await file.giveAway({ store: "manager", id: node, cluster });
}

function notCopied(commits: number | undefined): string {
  if (commits === undefined) return "it is not known what that one has of this one's last changes";
  return `${counted(commits, "commit was", "commits were")} not copied to it`;
}
