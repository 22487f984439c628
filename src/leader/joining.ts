// How a machine joins the cluster, and how a node gets a new certificate before the one that it has ends.
import { createHash, timingSafeEqual } from "node:crypto";
import { type JoinAnswer, JoinRequest, type RenewAnswer, RenewRequest } from "../cluster/join-protocol.ts";
import { settingsOf, trustOf } from "../cluster/lookup.ts";
import { managersOf } from "../cluster/managers.ts";
import type { State } from "../cluster/tables.ts";
import { Role } from "../cluster/trust-rows.ts";
import { check } from "../lib/check.ts";
import type { Clock } from "../lib/clock.ts";
import { UserError } from "../lib/errors.ts";
import { parseIpv4 } from "../lib/ip.ts";
import type { Log } from "../lib/log.ts";
import { secureRandom } from "../lib/random.ts";
import { SourceRateLimit } from "../lib/rate-limit.ts";
import { CERTIFICATE_LIFE_MS, issue, requestedKey } from "../trust/authority.ts";
import { publicKeyDigest } from "../trust/certificates.ts";
import { requireSameClock } from "../trust/expiry.ts";
import type { KeyRing } from "../trust/key-ring.ts";
import { parseToken } from "../trust/token.ts";
import { logWrite } from "./audit.ts";
import { type Peer, requireNode } from "./authority.ts";
import type { Leader } from "./leader.ts";

interface JoiningOptions {
  /** Throws MisdirectedError on a standby, and UserError 503 while this manager knows of no leader. */
  leader(): Leader;
  ring: KeyRing;
  clock: Clock;
  log: Log;
}

/** A fleet behind one address translator joins at this pace. */
const JOINS_PER_SECOND = 10;

export class Joining {
  readonly #options: JoiningOptions;
  readonly #limit = new SourceRateLimit(JOINS_PER_SECOND, secureRandom() * 2 ** 32);

  constructor(options: JoiningOptions) {
    this.#options = options;
  }

  /** `from`: the address that the connection comes from. Throws UserError, and MisdirectedError on a standby. */
  async join(input: unknown, from: string): Promise<JoinAnswer> {
    const { leader, clock, log } = this.#options;
    if (!this.#limit.take(parseIpv4(from) ?? 0, Math.floor(clock.monotonic() / 1000))) {
      throw new UserError(429, `more than ${JOINS_PER_SECOND} joins a second come from ${from}; try again in a second`);
    }
    const { state } = leader();
    const { token, request, identity, role: wanted, now } = check(JoinRequest, input);
    const { name } = identity;
    const peer = { subject: { kind: "node", clusterId: "", id: "", name, role: "worker" }, from } as const;
    return logWrite(log, { peer, command: { type: "node.join", name } }, async () => {
      const role = roleOf(state, token, wanted);
      requireSameClock(now, clock.now());
      const keyDigest = publicKeyDigest(await requestedKey(request));
      await leader().waitVtep(identity.address);
      const { id: nodeId } = await leader().admit({ identity, role, keyDigest, ...this.#nextCertificate() });
      const settings = settingsOf(state)!;
      return { ...(await this.#certify(nodeId, request)), cluster: state.cluster!, nodeId, settings };
    });
  }

  /** A manager's own node may come late: no certificate shows who it is. Throws UserError, and MisdirectedError on a standby. */
  async renew(input: unknown, peer: Peer): Promise<RenewAnswer> {
    const { leader, clock, log } = this.#options;
    const { request } = check(RenewRequest, input);
    return logWrite(log, { peer, command: { type: "node.renew", name: peer.subject.name } }, async () => {
      const { state } = leader();
      const { id, name, keyDigest } = requireNode(state, peer.subject, peer.from === null ? 0 : clock.now());
      if (publicKeyDigest(await requestedKey(request)) !== keyDigest) {
        throw new UserError(403, `node '${name}' keeps its key: a node with another one joins with a token`);
      }
      const answer = await this.#certify(id, request);
      const { certificateSigner, ...next } = this.#nextCertificate();
      // The answer may be lost: what another node has, it shows (shown-certificates.ts).
      await leader().renewed(id, peer.from === null ? { ...next, certificateSigner } : next);
      return answer;
    });
  }

  /** What a certificate that is issued now has. */
  #nextCertificate(): { certificateExpires: number; certificateSigner: string } {
    const { leader, clock } = this.#options;
    return {
      certificateExpires: clock.now() + CERTIFICATE_LIFE_MS,
      certificateSigner: trustOf(leader().state)!.signer,
    };
  }

  async #certify(nodeId: string, request: string): Promise<RenewAnswer> {
    const { leader, ring, clock } = this.#options;
    const { state } = leader();
    const node = state.nodes.get(nodeId);
    if (node === undefined) throw new UserError(401, "this node was removed from the cluster meanwhile");
    const { name, role } = node;
    const { bundle, bridges = [], signer } = trustOf(state)!;
    const subject = { kind: "node", clusterId: state.cluster!.id, id: nodeId, name, role } as const;
    const certificate = await issue(ring.signer(signer), { request, subject, now: clock.now() });
    const answer = { certificate, bundle, bridges, role, managers: managersOf(state) };
    return role === "manager" ? { ...answer, keys: ring.keys } : answer;
  }
}

/** What the token is for. Throws UserError 400 for one that is cut, and 403 for one that is wrong. */
function roleOf({ tokens }: State, token: string, wanted: Role | undefined): Role {
  const { secret } = parseToken(token);
  const role = Role.options.find((option) => isSame(tokens.get(option)?.secret, secret));
  if (role === undefined) {
    const print = `'overlayctl join-token ${wanted ?? "worker"}' on a manager prints the one that is good now`;
    throw new UserError(403, `this token is wrong, or was rotated: ${print}`, { field: "token" });
  }
  if (wanted !== undefined && wanted !== role) {
    const message = `this token is for a ${role}, not for a ${wanted}: 'overlayctl join-token ${wanted}' on a manager prints that`;
    throw new UserError(403, message, { field: "token" });
  }
  return role;
}

/** How long it takes says nothing of where they differ. */
function isSame(known: string | undefined, shown: string): boolean {
  const digest = (text: string): Buffer => createHash("sha256").update(text).digest();
  return known !== undefined && timingSafeEqual(digest(known), digest(shown));
}
