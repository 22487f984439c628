// Who is of the cluster, as a manager answers it: tokens, users and their certificates. What only the leader knows, another
// manager asks it for.
import type { AddUser, JoinTokenView, UserCertificateView, UserView } from "../api/membership-schema.ts";
import type { CommandInput, CommandResult } from "../cluster/commands.ts";
import { trustOf } from "../cluster/lookup.ts";
import { managersOf } from "../cluster/managers.ts";
import type { State } from "../cluster/tables.ts";
import type { Role } from "../cluster/trust-rows.ts";
import { systemClock } from "../lib/clock.ts";
import { UserError } from "../lib/errors.ts";
import { call } from "../lib/http.ts";
import { issue, requestedKey, USER_CERTIFICATE_LIFE_MS } from "../trust/authority.ts";
import type { ManagerKeys } from "../trust/identity-files.ts";
import { unlockManagerKeys } from "../trust/passphrase.ts";
import { formatToken } from "../trust/token.ts";
import type { ManagerPart } from "./manager.ts";
import type { Membership } from "./membership.ts";
import type { AgentOptions } from "./options.ts";
import { pathsOf } from "./paths.ts";

const ANSWER_TIMEOUT_MS = 10_000;
const ON_A_MANAGER = "run this on a manager, or with a user's file ('overlayctl --context FILE')";

interface MembersOptions {
  /** The state that the leader in this process leads with; undefined: it does not lead. */
  ledState(): State | undefined;
  /** Has the leader answer a request under /operator. Throws UserError. */
  askLeader<T>(request: { method: "GET" | "POST"; path: string; body?: object }): Promise<T>;
  execute(command: CommandInput): Promise<CommandResult>;
  /** Throws UserError when this node is no manager. */
  keys(): Promise<ManagerKeys>;
  /** Wall-clock milliseconds. */
  now(): number;
}

/** `manager` is what this node runs as a manager; undefined: it is a worker. */
export function createMembers(
  { config, identity }: Pick<AgentOptions, "config" | "identity">,
  { session, connections }: Pick<Membership, "session" | "connections">,
  manager: ManagerPart | undefined,
): Members {
  return new Members({
    ledState: () => manager?.leader?.state,
    askLeader({ path, ...request }) {
      const { manager: leader } = session;
      if (leader === undefined)
        throw new UserError(503, `no leader answers (${session.problem ?? "none was asked yet"})`);
      const at = { address: leader, agent: connections.agent };
      return call(at, { ...request, path: `/operator${path}`, timeoutMs: ANSWER_TIMEOUT_MS });
    },
    execute: (command) => session.execute(command),
    async keys() {
      const { identity: directory } = pathsOf(config);
      if (identity.role === "manager") {
        const { keys } = await unlockManagerKeys(identity.files, directory, config.cluster.passphrase);
        if (keys !== undefined) return keys;
      }
      throw new UserError(403, `this node is a worker: ${ON_A_MANAGER}`);
    },
    now: systemClock.now,
  });
}

export class Members {
  readonly #options: MembersOptions;

  constructor(options: MembersOptions) {
    this.#options = options;
  }

  /** The token with which nodes join. `rotate` makes a new one first. */
  async joinToken(role: Role, { rotate }: { rotate: boolean }): Promise<JoinTokenView> {
    const { ledState, askLeader, execute, keys } = this.#options;
    await keys(); // a worker is told that it is none before it is told what it may not do
    if (rotate) await execute({ type: "token.rotate", role });
    const state = ledState();
    if (state === undefined) return askLeader({ method: "GET", path: `/v1/join-tokens/${role}` });
    const { secret } = state.tokens.get(role)!;
    const token = formatToken({ digest: trustOf(state)!.signer, secret });
    return { role, token, managers: managersOf(state) };
  }

  async users(): Promise<UserView[]> {
    const { ledState, askLeader, keys } = this.#options;
    await keys();
    const state = ledState();
    if (state === undefined) return askLeader({ method: "GET", path: "/v1/users" });
    return [...state.users.values()];
  }

  /** The leader has the row before the certificate is made: no certificate is without one. */
  async addUser({ name, request }: AddUser): Promise<UserCertificateView> {
    const { ledState, askLeader, execute, keys, now } = this.#options;
    const { nodes } = await keys();
    const state = ledState();
    if (state === undefined) return askLeader({ method: "POST", path: "/v1/users", body: { name, request } });
    await requestedKey(request); // one that cannot be used makes no row
    const createdAt = now();
    const expires = createdAt + USER_CERTIFICATE_LIFE_MS;
    const { id } = await execute({ type: "user.add", name, expires });
    const { id: cluster } = state.cluster!;
    const subject = { kind: "user", clusterId: cluster, id, name } as const;
    const certificate = await issue(nodes, { request, subject, now: createdAt });
    const { bundle } = trustOf(state)!;
    return { id, name, createdAt, expires, cluster, certificate, bundle, managers: managersOf(state) };
  }
}
