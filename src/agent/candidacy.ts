// A manager that has etcd: it stands for leader there, once etcd says that it has the cluster's state.
import type { ClusterIdentity } from "../cluster/schema.ts";
import type { EtcdStore } from "../leader/etcd-store.ts";
import { CannotLeadError, type Store } from "../leader/store.ts";
import { type EtcdAccess, etcdStore, identityIn, openedStore, watchAnswers } from "./etcd-access.ts";
import type { ManagerOptions } from "./manager-options.ts";
import { findSuccessor } from "./successor.ts";

interface CandidacyOptions {
  options: ManagerOptions;
  access: EtcdAccess;
  cluster: ClusterIdentity;
  /** The cluster whose state this manager's own file gave to etcd: etcd may not say so yet. */
  given: ClusterIdentity | undefined;
  /** Ends it. */
  signal: AbortSignal;
  /** Called when it stands for leader. */
  begun(candidate: EtcdStore): void;
  /** Called again and again with whether etcd answers. */
  heard(answers: boolean): void;
  ended(): void;
  /** Leads from the store, when this manager is elected, until that is over. */
  lead(store: Store): Promise<unknown>;
}

/** Resolves when it stood, and led, for as long as it could. Throws CannotLeadError when there is a newer epoch. */
export async function standForLeader({
  options,
  access,
  cluster,
  given,
  signal,
  begun,
  heard,
  ended,
  lead,
}: CandidacyOptions): Promise<void> {
  const { identity } = options;
  if ((await findSuccessor(options, cluster)) !== undefined) {
    throw new CannotLeadError("another manager leads in a newer epoch", "overlayctl cluster status");
  }
  const store = etcdStore(access, options);
  begun(store);
  const endCampaign = () => store.endCampaign(); // the leadership is given back when the leader has stopped
  signal.addEventListener("abort", endCampaign);
  const watching = new AbortController();
  const watch = watchAnswers(access, watching.signal, heard);
  try {
    const identified = () => identityIn(access, identity.clusterId);
    await lead(given === undefined ? store : openedStore(store, given, identified));
  } finally {
    signal.removeEventListener("abort", endCampaign);
    watching.abort();
    await watch;
    ended();
    await store.close();
  }
}
