// Who is of the cluster, as a manager answers it: tokens, users and the certificate authority. What only the leader knows,
// another manager asks it for.
import type {
  AddUser,
  AuthorityView,
  JoinTokenView,
  RotateAuthority,
  UserCertificateView,
  UserView,
} from "../api/membership-schema.ts";
import type { CommandInput, CommandResult } from "../cluster/commands.ts";
import { trustOf } from "../cluster/lookup.ts";
import { managersOf } from "../cluster/managers.ts";
import type { State } from "../cluster/tables.ts";
import type { Role } from "../cluster/trust-rows.ts";
import type { AuthorityRotations } from "../leader/authority-rotations.ts";
import { systemClock } from "../lib/clock.ts";
import { UserError } from "../lib/errors.ts";
import { call } from "../lib/http.ts";
import { type AuthorityPurpose, issue, requestedKey, USER_CERTIFICATE_LIFE_MS } from "../trust/authority.ts";
import type { KeyRing } from "../trust/key-ring.ts";
import { formatToken } from "../trust/token.ts";
import type { ManagerPart } from "./manager-part.ts";
import type { Membership } from "./membership.ts";
import type { AgentOptions } from "./options.ts";

const ANSWER_TIMEOUT_MS = 10_000;
/** How long a change of one certificate authority is waited for. It goes on after that. */
const ROTATE_MS = 60_000;
const BOTH: readonly AuthorityPurpose[] = ["nodes", "store"];

/** What leads in this process. */
interface Leading {
  state: State;
  ring: KeyRing;
  rotations: Pick<AuthorityRotations, "rotate">;
  /** The CAs that this cluster has: an external etcd has its own. */
  authorities: readonly AuthorityPurpose[];
}

interface LeaderRequest {
  method: "GET" | "POST";
  path: string;
  body?: object;
  /** How much longer than others the leader may take. */
  extraMs?: number;
}

interface MembersOptions {
  /** Throws UserError 403 when this node is a worker. */
  requireManager(): void;
  /** undefined: another manager leads. */
  leading(): Leading | undefined;
  /** Has the leader answer a request under /operator. Throws UserError. */
  askLeader<T>(request: LeaderRequest): Promise<T>;
  execute(command: CommandInput): Promise<CommandResult>;
  /** Wall-clock milliseconds. */
  now(): number;
}

/** `manager` is what this node runs as a manager; undefined: it is a worker. */
export function createMembers(
  { identity, config }: Pick<AgentOptions, "identity" | "config">,
  { session, leaderCalls, connections }: Pick<Membership, "session" | "leaderCalls" | "connections">,
  manager: () => ManagerPart | undefined,
): Members {
  return new Members({
    requireManager() {
      if (identity.role === "manager") return;
      const where = "run this on a manager, or with a user's file ('overlayctl --context FILE')";
      throw new UserError(403, `this node is a worker: ${where}`);
    },
    leading: () => {
      const leads = manager()?.leads;
      if (leads === undefined) return undefined;
      const { leader, ring, rotations } = leads;
      const authorities = config.cluster.etcd.endpoints === undefined ? BOTH : BOTH.filter((one) => one === "nodes");
      return { state: leader.state, ring, rotations, authorities };
    },
    askLeader({ path, extraMs = 0, ...request }) {
      const { manager: leader, problem } = session;
      if (leader === undefined) throw new UserError(503, `no leader answers (${problem ?? "none was asked yet"})`);
      const at = { address: leader, agent: connections.agent };
      return call(at, { ...request, path: `/operator${path}`, timeoutMs: ANSWER_TIMEOUT_MS + extraMs });
    },
    execute: (command) => leaderCalls.execute(command),
    now: systemClock.now,
  });
}

/** Each call throws UserError, 403 on a worker. */
export class Members {
  readonly #options: MembersOptions;

  constructor(options: MembersOptions) {
    this.#options = options;
  }

  /** The token with which nodes join. `rotate` makes a new one first. */
  async joinToken(role: Role, { rotate }: { rotate: boolean }): Promise<JoinTokenView> {
    const { requireManager, leading, askLeader, execute } = this.#options;
    requireManager();
    if (rotate) await execute({ type: "token.rotate", role });
    const leads = leading();
    if (leads === undefined) return askLeader({ method: "GET", path: `/v1/join-tokens/${role}` });
    const { state } = leads;
    const { secret } = state.tokens.get(role)!;
    const token = formatToken({ digest: trustOf(state)!.signer, secret });
    return { role, token, managers: managersOf(state) };
  }

  /** `authority`: which one; left out: all that the cluster has, for the keys of both are on each manager's disk. */
  async rotateAuthority({ authority }: RotateAuthority): Promise<AuthorityView[]> {
    const { requireManager, leading, askLeader } = this.#options;
    requireManager();
    const leads = leading();
    if (leads === undefined) {
      const body = authority === undefined ? {} : { authority };
      return askLeader({ method: "POST", path: "/v1/authority/rotate", body, extraMs: BOTH.length * ROTATE_MS });
    }
    const progress = await leads.rotations.rotate(authority === undefined ? leads.authorities : [authority], ROTATE_MS);
    return progress.map(({ waitsFor, ...rest }) => ({ ...rest, waitsFor: [...waitsFor] }));
  }

  async users(): Promise<UserView[]> {
    const { requireManager, leading, askLeader } = this.#options;
    requireManager();
    const leads = leading();
    if (leads === undefined) return askLeader({ method: "GET", path: "/v1/users" });
    return [...leads.state.users.values()];
  }

  /** The leader has the row before the certificate is made: no certificate is without one. */
  async addUser({ name, request }: AddUser): Promise<UserCertificateView> {
    const { requireManager, leading, askLeader, execute, now } = this.#options;
    requireManager();
    const leads = leading();
    if (leads === undefined) return askLeader({ method: "POST", path: "/v1/users", body: { name, request } });
    const { state, ring } = leads;
    await requestedKey(request); // one that cannot be used makes no row
    const { bundle, signer } = trustOf(state)!;
    const authority = ring.signer(signer);
    const createdAt = now();
    const expires = createdAt + USER_CERTIFICATE_LIFE_MS;
    const { id } = await execute({ type: "user.add", name, expires });
    const { id: cluster } = state.cluster!;
    const subject = { kind: "user", clusterId: cluster, id, name } as const;
    const certificate = await issue(authority, { request, subject, now: createdAt });
    return { id, name, createdAt, expires, cluster, certificate, bundle: [...bundle], managers: managersOf(state) };
  }
}
