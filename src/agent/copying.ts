// A standby while it copies the leader's state into a file of its own, and what it leads from when a person has it take over.
import { settingsOf } from "../cluster/lookup.ts";
import { type EmbeddedStore, openEmbeddedStore } from "../leader/embedded-store.ts";
import { StateCopy } from "../leader/state-copy.ts";
import { delay, systemClock } from "../lib/clock.ts";
import { UserError } from "../lib/errors.ts";
import type { ManagerOptions } from "./manager-options.ts";
import { pathsOf } from "./paths.ts";

const LOOK_MS = 500;

export interface Copying {
  copy: StateCopy;
  store: EmbeddedStore;
}

interface CopyingOptions {
  options: ManagerOptions;
  /** Ends it. */
  signal: AbortSignal;
  /** Called when it copies. */
  begun(copying: Copying): void;
  ended(): void;
  /** Asked again and again: whether the state is elsewhere, so that there is nothing to copy any more. */
  isOver(): Promise<boolean>;
}

export async function copyLeader({ options, signal, begun, ended, isOver }: CopyingOptions): Promise<void> {
  const { config, ring, calls, followed, log } = options;
  const store = await openEmbeddedStore(pathsOf(config).copy, ring.keys.sealKey);
  const copy = new StateCopy({
    store,
    ask: (request, aborting) => {
      const leader = followed();
      if (leader === undefined) throw new UserError(503, "no leader is known");
      return calls.copy(leader, request, aborting);
    },
    ...{ clock: systemClock, log },
  });
  try {
    await copy.start();
    begun({ copy, store });
    while (!signal.aborted) {
      await delay(systemClock, LOOK_MS, signal);
      if (!signal.aborted && (await isOver())) return;
    }
  } finally {
    ended();
    await copy.stop();
    await store.close();
  }
}

/**
 * Puts what was copied, in a new epoch, where this manager leads from. Resolves with what that is. Throws UserError 409 when
 * nothing was copied; copying has ended then, too.
 */
export async function takeOverCopy(
  { copy, store }: Copying,
  { config, ring }: ManagerOptions,
  epoch: number,
): Promise<{ revision: number; epoch: number }> {
  await copy.stop();
  const state = await store.load();
  const { cluster } = state;
  if (cluster === null || settingsOf(state) === undefined) {
    throw new UserError(
      409,
      "this standby has copied nothing yet: 'overlayctl cluster import FILE' begins from an export",
    );
  }
  state.cluster = { id: cluster.id, epoch: Math.max(epoch, cluster.epoch + 1) };
  const file = await openEmbeddedStore(pathsOf(config).store, ring.keys.sealKey);
  await file.fill(state).finally(() => file.close());
  return { revision: state.revision, epoch: state.cluster.epoch };
}
