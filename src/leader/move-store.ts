// The move of the state from this manager's LMDB file to an etcd of three managers. There are never two truths: until the
// state is given away, the file leads and all that is in etcd is thrown away. From then on etcd leads, and only then its
// head says which cluster it is of; without that no manager leads from it.
//
//   check -> begin -> join -> copy -> give away -> open
//            '--- a failure here: discard ---'       '--- a failure here: this manager steps down, etcd leads all the same
import type { ClusterIdentity } from "../cluster/schema.ts";
import { emptyState } from "../cluster/state.ts";
import type { State } from "../cluster/tables.ts";
import { type Clock, delay } from "../lib/clock.ts";
import { messageOf, UserError } from "../lib/errors.ts";
import type { Log } from "../lib/log.ts";
import type { EmbeddedStore } from "./embedded-store.ts";
import type { Leader } from "./leader.ts";
import { stateDigest } from "./state-digest.ts";
import type { Leadership, Store } from "./store.ts";

export type MoveStep = "check" | "begin" | "join" | "copy" | "give away" | "open";

const OPEN_PAUSE_MS = 200;

/** The etcd that the state moves to. */
export interface MoveTarget {
  /** Throws UserError with what keeps etcd from running on one of the managers. */
  check(): Promise<void>;
  /** Starts an etcd of one member here. Resolves with the store in it, and the id of etcd's cluster. */
  begin(): Promise<{ store: Store; id: string }>;
  /** Adds the other managers, one after the other. Resolves when all of them vote. */
  join(): Promise<void>;
  /** Stops what was started on all managers, and deletes their data. */
  discard(): Promise<void>;
}

interface MoveOptions {
  from: EmbeddedStore;
  target: MoveTarget;
  leader: Pick<Leader, "changeStore">;
  clock: Clock;
  log: Log;
  /** Called before each step. */
  step?: (step: MoveStep) => Promise<void> | void;
}

/** Resolves when the leader leads from etcd. Throws UserError when it goes on leading from the file. */
export async function moveStore({
  from,
  target,
  leader,
  clock,
  log,
  step: before = () => {},
}: MoveOptions): Promise<void> {
  const step = async (next: MoveStep): Promise<void> => {
    log.info(`the move to etcd: ${next}`);
    await before(next);
  };
  await step("check");
  await target.check();
  let isGivenAway = false;
  try {
    await target.discard(); // what an earlier attempt left
    await step("begin");
    const { store, id } = await target.begin();
    await step("join");
    await target.join();
    await step("copy");
    await leader.changeStore(async (state) => {
      const leadership = await copyState(state, store);
      await step("give away");
      const cluster = state.cluster!;
      await from.giveAway({ store: "etcd", id, cluster });
      isGivenAway = true;
      await step("open");
      await openStore(store, cluster, leadership, { clock, log });
      log.warn("the cluster's state has moved to etcd, which the managers run", { revision: state.revision });
      return { store, leadership };
    });
  } catch (error) {
    if (isGivenAway) throw error;
    log.warn("the move to etcd failed; this manager leads on from its own file", { reason: messageOf(error) });
    await target.discard();
    throw new UserError(503, `the move to etcd failed, and the store is as it was: ${messageOf(error)}`, {
      cause: error,
    });
  }
}

/** Writes the state without its cluster, reads it back, and compares. */
async function copyState(state: State, store: Store): Promise<Leadership> {
  const leadership = await store.campaign();
  const unnamed = emptyState();
  unnamed.replaceBy({ ...state, cluster: null });
  await store.fill(unnamed);
  const copy = await store.load();
  copy.cluster = null;
  const [written, read] = [stateDigest(unnamed), stateDigest(copy)];
  if (written !== read) throw new Error(`what etcd has is not what was written: ${read} instead of ${written}`);
  return leadership;
}

/**
 * Says in the store which cluster it is of, so that managers may lead from it. Resolves when it does, or when this manager
 * leads no longer: the next one of them that reads where the state went does it then.
 */
export async function openStore(
  store: Pick<Store, "identify">,
  cluster: ClusterIdentity,
  { lost }: Leadership,
  { clock, log }: { clock: Clock; log: Log },
): Promise<void> {
  while (!lost.aborted) {
    try {
      await store.identify(cluster);
      return;
    } catch (error) {
      log.warn("etcd does not take the cluster's identity yet", { reason: messageOf(error) });
      await delay(clock, OPEN_PAUSE_MS, lost);
    }
  }
}
