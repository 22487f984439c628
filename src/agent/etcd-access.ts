// How this manager reaches etcd: its own member on loopback, or the external one that the configuration names.
import { readFile } from "node:fs/promises";
import { ClusterIdentity } from "../cluster/schema.ts";
import type { MovedTo } from "../leader/embedded-store.ts";
import { EtcdClient } from "../leader/etcd-client.ts";
import type { EtcdTls } from "../leader/etcd-endpoints.ts";
import { EtcdStore } from "../leader/etcd-store.ts";
import type { Leadership, Store } from "../leader/store.ts";
import { delay, systemClock } from "../lib/clock.ts";
import { ConfigError, messageOf } from "../lib/errors.ts";
import type { Config } from "./config.ts";
import type { EtcdMember } from "./etcd-member.ts";
import type { ManagerOptions } from "./manager-options.ts";

const LOOK_MS = 200;
/** Longer than an election takes. */
const ANSWER_MS = 5000;
const DEFRAGMENT_MS = 60_000;

type ExternalEtcd = Config["cluster"]["etcd"] & { endpoints: string[] };

export interface EtcdAccess {
  client: EtcdClient;
  close(): void;
}

/** The client's certificates follow the member's. */
export async function ownEtcd(member: EtcdMember): Promise<EtcdAccess> {
  const client = new EtcdClient({ endpoints: [member.endpoint], tls: await member.certificate.credentials() });
  const unfollow = member.certificate.onCredentials((credentials) => client.setTls(credentials));
  return {
    client,
    close: () => {
      unfollow();
      client.close();
    },
  };
}

/** Throws ConfigError when a file of the configuration cannot be read. */
export async function externalEtcd({ endpoints, ca, certificate, key }: ExternalEtcd): Promise<EtcdAccess> {
  const tls: EtcdTls = {
    ca: await readPem("ca", ca),
    certificate: await readPem("certificate", certificate),
    key: await readPem("key", key),
  };
  const client = new EtcdClient({ endpoints, tls });
  return { client, close: () => client.close() };
}

async function readPem(field: string, path: string | undefined): Promise<string> {
  if (path === undefined) throw new ConfigError(`cluster.etcd.${field}`, "missing: endpoints need a file in PEM");
  try {
    return await readFile(path, "utf8");
  } catch (cause) {
    throw new ConfigError(`cluster.etcd.${field}`, `'${path}' cannot be read: ${messageOf(cause)}`, { cause });
  }
}

function prefixOf(clusterId: string): string {
  return `/overlayd/${clusterId}`;
}

/** `self`: HOST:PORT at which this manager is reached while it leads. */
export function etcdStore(
  { client }: EtcdAccess,
  { identity, ring, self, log }: Pick<ManagerOptions, "identity" | "ring" | "self" | "log">,
): EtcdStore {
  const prefix = prefixOf(identity.clusterId);
  return new EtcdStore({ client, prefix, sealKey: ring.keys.sealKey, self, clock: systemClock, log });
}

/** Which cluster's state etcd has; undefined: none that a manager may lead from. Throws EtcdError. */
export async function identityIn({ client }: EtcdAccess, clusterId: string): Promise<ClusterIdentity | undefined> {
  const { rows } = await client.range({ key: `${prefixOf(clusterId)}/head` });
  const head = rows[0] === undefined ? {} : (JSON.parse(rows[0].value) as { cluster?: unknown });
  return ClusterIdentity.optional().parse(head.cluster);
}

/** Whether it is this etcd to which a file gave its state. False while it does not answer. */
export async function isGivenTo({ client }: EtcdAccess, moved: MovedTo): Promise<boolean> {
  if (moved.store !== "etcd") return false;
  return client.status().then(
    ({ clusterId }) => clusterId === moved.id,
    () => false,
  );
}

/**
 * The store, which says that it is of `cluster` as soon as this manager leads, unless it says so already: the move to it broke
 * off before it could.
 */
export function openedStore(
  store: Store,
  cluster: ClusterIdentity,
  identified: () => Promise<ClusterIdentity | undefined>,
): Store {
  return {
    async campaign(): Promise<Leadership> {
      const leadership = await store.campaign();
      if ((await identified()) !== undefined) return leadership;
      await store.load(); // a store that was not read knows of no head
      await store.identify(cluster);
      return leadership;
    },
    load: () => store.load(),
    commit: (changes, revision) => store.commit(changes, revision),
    identify: (next) => store.identify(next),
    fill: (state) => store.fill(state),
    close: () => store.close(),
  };
}

/** Resolves when etcd has a leader. Throws when that takes too long, or `signal` aborts. */
export async function untilReady({ client }: EtcdAccess, withinMs: number, signal: AbortSignal): Promise<void> {
  const deadline = systemClock.monotonic() + withinMs;
  for (;;) {
    signal.throwIfAborted();
    try {
      if ((await client.status({ signal })).leader !== "0") return;
      if (systemClock.monotonic() > deadline) throw new Error("etcd has no leader");
    } catch (error) {
      if (systemClock.monotonic() > deadline) throw error;
    }
    await delay(systemClock, LOOK_MS, signal);
  }
}

/** Says again and again whether a majority of etcd answers, until `signal` aborts. */
export async function watchAnswers(
  { client }: EtcdAccess,
  signal: AbortSignal,
  heard: (answers: boolean) => void,
): Promise<void> {
  while (!signal.aborted) {
    const asked = client.range({ key: "/overlayd" }, { signal, timeoutMs: ANSWER_MS });
    const answers = await asked.then(
      () => true,
      () => false,
    );
    if (!signal.aborted) heard(answers);
    if (answers) await mendSpace({ client }, signal).catch(() => {}); // 'cluster status' shows the alarm
    await delay(systemClock, ANSWER_MS, signal);
  }
}

/**
 * Makes room in a member that has used up its quota, and has it take writes again: what is older than the newest revision is
 * forgotten, and the database's file is written anew. Returns whether there was need.
 */
export async function mendSpace({ client }: Pick<EtcdAccess, "client">, signal: AbortSignal): Promise<boolean> {
  const alarms = (await client.alarms({ signal })).filter(({ alarm }) => alarm === "NOSPACE");
  const { memberId } = await client.status({ signal });
  const own = alarms.find((alarm) => alarm.memberId === memberId);
  if (own === undefined) return false;
  const { revision } = await client.range({ key: "/overlayd" }, { signal });
  await client.compact(revision, { signal }).catch(() => {}); // another manager has done it, or there is nothing older
  await client.defragment({ timeoutMs: DEFRAGMENT_MS, signal });
  await client.disarm(own, { signal });
  return true;
}
