// How far changes of the CAs are, as `cluster status` says it on every manager.
import { storeTrustOf, trustOf } from "../cluster/lookup.ts";
import type { State } from "../cluster/tables.ts";
import type { Trust } from "../cluster/trust-rows.ts";
import type { MemberTrust } from "../leader/manager-protocol.ts";
import { counted } from "../lib/counted.ts";
import { publicKeyDigest } from "../trust/certificates.ts";

/** `members`: what the etcd of each manager takes and shows, by the name of its node. `now`: wall-clock milliseconds. */
export function authorityProgress(state: State, members: ReadonlyMap<string, MemberTrust>, now: number): string[] {
  const [nodes, store] = [trustOf(state), storeTrustOf(state)];
  return [
    ...(nodes === undefined ? [] : nodesProgress(nodes, state, now)),
    ...(store === undefined ? [] : storeProgress(store, members)),
  ];
}

function nodesProgress(trust: Trust, { nodes }: State, now: number): string[] {
  const [, newest] = digestsOf(trust);
  if (newest === undefined) return [];
  const what = "the CA of nodes and users is being changed";
  if (trust.signer !== newest) return [`${what}: managers fetch the new key`];
  const isOld = [...nodes.values()].filter(
    ({ certificateExpires, certificateSigner }) => (certificateExpires ?? 0) > now && certificateSigner !== newest,
  );
  return [
    `${what}: ${waiting(
      isOld.map(({ name }) => name),
      "node has no certificate of the new one",
      "nodes have no certificate of the new one",
    )}`,
  ];
}

function storeProgress(trust: Trust, members: ReadonlyMap<string, MemberTrust>): string[] {
  const digests = digestsOf(trust);
  const newest = digests[1];
  const namesWhere = (isSo: (member: MemberTrust) => boolean): string[] =>
    [...members].filter(([, member]) => isSo(member)).map(([name]) => name);
  const what = "the CA of the managers' store is being changed";
  if (newest === undefined) {
    const behind = namesWhere(({ trusts }) => trusts.some((digest) => !digests.includes(digest)));
    return behind.length === 0
      ? []
      : [`${what}: ${waiting(behind, "manager still trusts the one before", "managers still trust the one before")}`];
  }
  if (trust.signer !== newest) {
    const behind = namesWhere(({ trusts }) => !trusts.includes(newest));
    return [
      `${what}: ${waiting(behind, "manager does not trust the new one beside it yet", "managers do not trust the new one beside it yet")}`,
    ];
  }
  return [
    `${what}: ${waiting(
      namesWhere(({ signer }) => signer !== newest),
      "manager shows no certificate of the new one yet",
      "managers show no certificate of the new one yet",
    )}`,
  ];
}

function digestsOf({ bundle }: Trust): string[] {
  return bundle.map((ca) => publicKeyDigest(ca));
}

function waiting(names: readonly string[], one: string, several: string): string {
  if (names.length === 0) return "its next step is about to begin";
  return `${counted(names.length, one, several)}: ${names.join(", ")}`;
}
