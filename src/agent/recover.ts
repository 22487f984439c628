// The last living member of etcd becomes the only one, and its state begins a new epoch.
import { UserError } from "../lib/errors.ts";
import { etcdStore, ownEtcd, untilReady } from "./etcd-access.ts";
import type { EtcdMember } from "./etcd-member.ts";
import type { ManagerOptions } from "./manager-options.ts";

const READY_MS = 60_000;

/** Resolves when etcd has taken the new epoch. This manager must not stand for leader meanwhile. Throws UserError 409. */
export async function recoverAlone(
  options: ManagerOptions,
  member: EtcdMember,
  { epoch, signal }: { epoch: number; signal: AbortSignal },
): Promise<{ revision: number; epoch: number }> {
  await member.forceNewCluster();
  const access = await ownEtcd(member);
  const store = etcdStore(access, options);
  try {
    await untilReady(access, READY_MS, signal);
    await store.campaign();
    const { cluster, revision } = await store.load();
    if (cluster === null) throw new UserError(409, "this manager's etcd has no cluster's state");
    const next = { id: cluster.id, epoch: Math.max(epoch, cluster.epoch + 1) };
    await store.identify(next);
    return { revision, epoch: next.epoch };
  } finally {
    await store.close();
    access.close();
    await member.resume(); // without the option, which would remove members again at its next start
  }
}
