// Who is of the cluster: what nodes may do, the tokens with which they join, users, and whose certificates are taken.
import { isDeepStrictEqual } from "node:util";
import type { Command } from "../cluster/commands.ts";
import { findByName, requireNewName, settingsOf } from "../cluster/lookup.ts";
import { SETTINGS_KEY } from "../cluster/settings.ts";
import type { Draft } from "../cluster/state.ts";
import { MAX_BRIDGES, type Role, type Trust } from "../cluster/trust-rows.ts";
import { UserError } from "../lib/errors.ts";
import { publicKeyDigest } from "../trust/certificates.ts";
import type { LeaderContext } from "./context.ts";
import { requireOtherManager } from "./nodes.ts";

type Of<T extends Command["type"]> = Extract<Command, { type: T }>;

/** Throws UserError 409 when no manager would be left. */
export function setRole(draft: Draft, name: string, role: Role): string {
  const { nodes } = draft.state;
  const node = findByName("node", nodes, name);
  if (node.role === role) return node.id;
  if (role === "worker") requireOtherManager(draft.state, node);
  draft.put("nodes", { ...node, role });
  return node.id;
}

export function rotateToken(draft: Draft, role: Role, { newSecret, now }: LeaderContext): string {
  draft.put("tokens", { role, secret: newSecret(), createdAt: now });
  return role;
}

export function addUser(draft: Draft, { name, expires }: Of<"user.add">, { newId, now }: LeaderContext): string {
  requireNewName("user", draft.state.users, name);
  if (expires <= now) throw new UserError(400, "a certificate ends in the future", { field: "expires" });
  const id = newId();
  draft.put("users", { id, name, createdAt: now, expires });
  return id;
}

export function removeUser(draft: Draft, name: string): string {
  const { id } = findByName("user", draft.state.users, name);
  draft.remove("users", id);
  return id;
}

export function updateSettings(draft: Draft, { type: _, ...changes }: Of<"settings.update">): string {
  const settings = settingsOf(draft.state)!;
  const newest = { ...settings, ...changes };
  if (!isDeepStrictEqual(newest, settings)) draft.put("settings", newest);
  return SETTINGS_KEY;
}

/** Throws UserError 409 when the step does not follow on the one before. */
export function rotateAuthority(draft: Draft, { authority, step }: Of<"authority.rotate">): string {
  if (step.is === "begin") {
    // The store's has no row before it is changed for the first time.
    const first: Trust = { authority, bundle: [step.before], signer: publicKeyDigest(step.before) };
    const trust = draft.state.trust.get(authority) ?? first;
    if (trust.bundle.length > 1) {
      throw new UserError(
        409,
        "the certificate authority is being changed already: 'overlayctl ca rotate' goes on with that",
      );
    }
    const { bundle, bridges = [] } = trust;
    // The first authority signed itself: what trusted it, finds it at the end.
    const earlier = bridges.length === 0 ? bundle : bridges;
    const newest = [step.bridge, ...earlier].slice(0, MAX_BRIDGES);
    draft.put("trust", { ...trust, bundle: [...bundle, step.certificate], bridges: newest });
    return authority;
  }
  const trust = draft.state.trust.get(authority);
  if (trust === undefined) throw new UserError(409, "no change of the certificate authority has begun");
  if (step.is === "issue") {
    if (trust.bundle.length === 1) throw new UserError(409, "no change of the certificate authority has begun");
    draft.put("trust", { ...trust, signer: step.digest });
  } else {
    if (!trust.bundle.includes(step.certificate)) {
      throw new UserError(409, "the certificate authority that is to stay is not one of the cluster's");
    }
    // Join commands that name an earlier authority find the way from it. A new one that is given up signed nothing.
    const [, ...earlier] = trust.bridges ?? [];
    const isKept = step.certificate === trust.bundle.at(-1);
    draft.put("trust", { ...trust, bundle: [step.certificate], bridges: isKept ? (trust.bridges ?? []) : earlier });
  }
  return authority;
}
