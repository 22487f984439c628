// This manager's calls to other managers, over TLS with its node's certificate. leader/manager-routes.ts is the other end.
import type { Agent } from "node:https";
import type { MoveView } from "../api/cluster-schema.ts";
import { managerAddressOf } from "../cluster/managers.ts";
import { CALLER_HEADER } from "../cluster/protocol.ts";
import type { Node } from "../cluster/schema.ts";
import type { EtcdCheck } from "../leader/etcd-checks.ts";
import type { MemberAgent } from "../leader/etcd-members.ts";
import { ManagerReport, type MemberTrust } from "../leader/manager-protocol.ts";
import type { CopyRequest } from "../leader/state-copy.ts";
import { UserError } from "../lib/errors.ts";
import { call } from "../lib/http.ts";
import { currentAsker } from "../lib/on-behalf.ts";

const ANSWER_TIMEOUT_MS = 10_000;
/** Much less than a command waits that needs to know it ('node rm' of a manager). */
const CONDITION_TIMEOUT_MS = 3000;
const KEY_TIMEOUT_MS = 3000;
/** Longer than etcd takes to give up, see ELECTION_MS in leader/etcd-command.ts. Nothing is written meanwhile. */
const GIVE_LEAD_TIMEOUT_MS = 2500;
/** The checks write to the disk a hundred times. */
const CHECK_TIMEOUT_MS = 90_000;
/** Managers are checked, begun and come in step, one after the other. */
const MOVE_TIMEOUT_MS = 400_000;
/** The leader waits for its next commit. */
const COPY_TIMEOUT_MS = 60_000;

export class ManagerCalls {
  /** The connections' agent is another one after each renewal of the certificate. */
  readonly #connections: { readonly agent: Agent };

  constructor(connections: { readonly agent: Agent }) {
    this.#connections = connections;
  }

  /** `manager` is HOST:PORT. */
  async report(manager: string, timeoutMs = ANSWER_TIMEOUT_MS, signal?: AbortSignal): Promise<ManagerReport> {
    const request = { method: "GET", path: "report", timeoutMs } as const;
    return ManagerReport.parse(await this.#call(manager, signal === undefined ? request : { ...request, signal }));
  }

  copy(manager: string, request: CopyRequest, signal: AbortSignal): Promise<unknown> {
    return this.#call(manager, { method: "POST", path: "copy", body: request, timeoutMs: COPY_TIMEOUT_MS, signal });
  }

  /** Whether the manager has the key of the CA with this digest; false also when it does not answer. */
  async hasKey(manager: Node, digest: string): Promise<boolean> {
    const address = managerAddressOf(manager);
    if (address === undefined) return false;
    const report = await this.report(address, KEY_TIMEOUT_MS).catch(() => undefined);
    return report?.authorities.includes(digest) ?? false;
  }

  async takeTrust(manager: string, wanted: MemberTrust, signal: AbortSignal): Promise<void> {
    const request = { method: "POST", path: "member/trust", body: wanted, timeoutMs: CHECK_TIMEOUT_MS } as const;
    await this.#call(manager, { ...request, signal });
  }

  /**
   * `manager` is undefined while it is not known where it answers. `signal` ends questions; a member that is being begun or
   * removed is waited for.
   */
  member(manager: string | undefined, signal: AbortSignal): MemberAgent {
    const ask = <T>(path: string, request: { body?: object; timeoutMs: number; signal?: AbortSignal }): Promise<T> => {
      if (manager === undefined) throw new UserError(503, "it is not known where this manager answers");
      return this.#call(manager, { method: "POST", path: `member/${path}`, body: {}, ...request });
    };
    return {
      check: async () => ask<EtcdCheck[]>("check", { timeoutMs: CHECK_TIMEOUT_MS, signal }),
      begin: async (start) => ask("begin", { body: start, timeoutMs: CHECK_TIMEOUT_MS }),
      remove: async () => ask("remove", { timeoutMs: CHECK_TIMEOUT_MS }),
      condition: async () => {
        if (manager === undefined) return "ended";
        return (await this.report(manager, CONDITION_TIMEOUT_MS, signal)).member?.condition ?? "damaged"; // it has none
      },
      giveLead: async (member) => ask("lead", { body: { member }, timeoutMs: GIVE_LEAD_TIMEOUT_MS, signal }),
    };
  }

  /** Has the leader move the state to etcd, on behalf of who asked this manager for it. */
  move(leader: string, body: { force: boolean }): Promise<MoveView> {
    const at = { address: leader, agent: this.#connections.agent };
    const asker = currentAsker();
    const headers: Record<string, string> = asker === undefined ? {} : { [CALLER_HEADER]: asker };
    const request = { method: "POST", path: "/operator/v1/cluster/move", headers, body } as const;
    return call(at, { ...request, timeoutMs: MOVE_TIMEOUT_MS });
  }

  #call<T>(
    address: string,
    {
      path,
      ...request
    }: { method: "GET" | "POST"; path: string; body?: object; timeoutMs: number; signal?: AbortSignal },
  ): Promise<T> {
    return call<T>({ address, agent: this.#connections.agent }, { ...request, path: `/v1/managers/${path}` });
  }
}
