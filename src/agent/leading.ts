// A manager while it leads: the leader, and all that goes on beside it for that long.
import type { Node } from "../cluster/schema.ts";
import { AuthorityRotations } from "../leader/authority-rotations.ts";
import type { EmbeddedStore } from "../leader/embedded-store.ts";
import { Leader } from "../leader/leader.ts";
import { PeerCalls } from "../leader/peer-calls.ts";
import type { Store } from "../leader/store.ts";
import { aborted, systemClock } from "../lib/clock.ts";
import { newId } from "../lib/random.ts";
import { leaderConfig, type ManagerOptions } from "./manager-options.ts";
import type { StoreHost } from "./member-agents.ts";
import { StoreMembers } from "./store-members.ts";
import { type Successor, SuccessorWatch } from "./successor.ts";
import { exportBeforeUpgrade } from "./upgrade-export.ts";

export interface Leading {
  leader: Leader;
  /** What nodes and users ask of it. */
  calls: PeerCalls;
  /** The changes of the CAs, which it carries out. */
  rotations: AuthorityRotations;
  members: StoreMembers;
}

interface LeadOptions {
  options: ManagerOptions;
  manager: StoreHost;
  store: Store;
  /** The store, if that is this manager's own file. */
  file: EmbeddedStore | undefined;
  /** Ends it. */
  signal: AbortSignal;
  /** Called when it leads. */
  begun(leading: Leading): void;
  /** Called when it is over, before another process may lead. */
  ended(): void;
}

/** Leads until that is over. Resolves with the manager that leads in a newer epoch, if that is why. */
export async function lead({
  options,
  manager,
  store,
  file,
  signal,
  begun,
  ended,
}: LeadOptions): Promise<{ successor: Successor; leader: Leader } | undefined> {
  const { identity, ring, ownLeader, self, log } = options;
  let members: StoreMembers | undefined;
  const state = await store.load();
  const watch = new SuccessorWatch(options, systemClock);
  const config = {
    ...leaderConfig(options, state),
    heardOfNewerEpoch: () => watch.askNow(),
    requireDispensable: async (node: Node, isRemoved: boolean) => members?.requireDispensable(node, isRemoved),
  };
  await exportBeforeUpgrade(options, state, { isOwnFile: file !== undefined });
  const leader = new Leader({ ...{ store, clock: systemClock, log, newId, config } });
  await leader.start();
  const calls = new PeerCalls({ leader, clock: systemClock, log });
  ownLeader.begin(self, calls);
  members = new StoreMembers({ options, manager, leader, file });
  const rotations = new AuthorityRotations({
    ...{ leader, ring, ownNodeId: identity.nodeId, clock: systemClock, log },
    store: members.authority,
    hasKey: (row, digest) => options.calls.hasKey(row, digest),
  });
  rotations.resume();
  begun({ leader, calls, rotations, members });
  const watching = new AbortController();
  try {
    const over = Promise.race([aborted(leader.over), aborted(signal)]).then(() => undefined);
    const found = watch.find(() => leader.state.cluster!, watching.signal);
    const successor = await Promise.race([over, found]);
    return successor === undefined ? undefined : { successor, leader };
  } finally {
    watching.abort();
    ended();
    ownLeader.end();
    if (!leader.over.aborted) await members.handOver();
    await Promise.all([rotations.stop(), leader.stop()]);
    await members.stop();
  }
}
