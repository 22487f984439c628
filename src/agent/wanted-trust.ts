// What a manager's state and keys say of the store's CA.
import { storeTrustOf } from "../cluster/lookup.ts";
import type { State } from "../cluster/tables.ts";
import { publicKeyDigest } from "../trust/certificates.ts";
import type { KeyRing } from "../trust/key-ring.ts";
import type { StoreTrust } from "./etcd-certificate.ts";

/** `state`: as far as this manager has one. */
export function storeTrust(state: State | undefined, ring: KeyRing): StoreTrust {
  const { certificate } = ring.keys.store;
  const { bundle, signer } = (state && storeTrustOf(state)) ?? {
    bundle: [certificate],
    signer: publicKeyDigest(certificate),
  };
  return { bundle, signer, authority: () => ring.signer(signer) };
}
