// The state of a simulated cluster that is new.
import type { NodeIdentity } from "../../../src/cluster/protocol.ts";
import type { LiveState } from "../../../src/cluster/state.ts";
import { found } from "../../fakes/founding.ts";
import { MemoryStore } from "../../fakes/memory-store.ts";
import { LIVENESS_MS, POOL } from "./timing.ts";

/** A cluster is made of what is in `begun`. `identity`: of its first manager's node. */
export async function foundedState(
  begun: LiveState,
  { identity, newId }: { identity: NodeIdentity; newId: () => string },
): Promise<LiveState> {
  const store = new MemoryStore();
  if (begun.networks.size > 0) await store.fill(begun);
  await found(store, { identity, newId, settings: { pool: POOL, livenessMs: LIVENESS_MS } });
  return store.load();
}
