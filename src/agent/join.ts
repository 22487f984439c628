// `overlayctl join`: this machine asks a manager for a certificate, and is a member of the cluster once that is on its disk.
import { Agent } from "node:https";
import type { CheckedJoin, JoinView } from "../api/membership-schema.ts";
import { JoinAnswer } from "../cluster/join-protocol.ts";
import { systemClock } from "../lib/clock.ts";
import { DeadlineError } from "../lib/deadline.ts";
import { MisdirectedError, messageOf, UserError } from "../lib/errors.ts";
import { call, UnreachableError } from "../lib/http.ts";
import type { Log } from "../lib/log.ts";
import { createRequest } from "../trust/authority.ts";
import { IdentityFiles } from "../trust/identity-files.ts";
import { lockManagerKeys } from "../trust/passphrase.ts";
import { pinnedTls } from "../trust/pinned.ts";
import { serverRefusal } from "../trust/refusals.ts";
import { parseToken } from "../trust/token.ts";
import type { Config } from "./config.ts";
import type { Identity } from "./identity.ts";
import { requireAskedListen } from "./listening.ts";
import { asSession, managerAddressOf, nodeIdentityOf } from "./node-identity.ts";
import { writeNodeSettings } from "./node-settings.ts";
import { pathsOf } from "./paths.ts";

interface JoinOptions {
  config: Config;
  log: Log;
  /** The node's own address. */
  address: string;
}

/** The manager waits for the address of a node that was removed, until no node sends there any more. */
const ANSWER_TIMEOUT_MS = 20_000;
const CONNECT_TIMEOUT_MS = 5000;
/** A standby names the leader, which may be another by then. */
const MAX_TRIES = 4;

interface RejoinOptions extends JoinOptions {
  identity: Identity;
  /** Whether it is a manager that cannot use its keys. */
  lacksKeys: boolean;
  /** Whether another node leads it. */
  isLed: boolean;
}

/**
 * As `join`, for a member whose certificate has ended while its agent was off, whose identity is damaged, which is a manager without
 * its keys, or which finds no leader: its cluster may be led from an address that it has not heard of, in a newer epoch, and the
 * leader before gives way then. It keeps its own key, and so its id and tasks. Its agent is to start again then. Throws UserError
 * 409 when nothing is wrong with it.
 */
export async function rejoin(
  { identity, lacksKeys, isLed, ...options }: RejoinOptions,
  request: CheckedJoin,
): Promise<JoinView> {
  const { clusterId, credentials, damage } = identity;
  const isWell = damage === undefined && !lacksKeys && isLed;
  if (isWell && credentials.validity.expires > systemClock.now()) {
    throw new UserError(
      409,
      `this node is a member of cluster ${clusterId} already: 'overlayctl leave' makes it forget that one first`,
    );
  }
  return join(options, request, identity);
}

/** `member`: what the node is already, which it joins again as; left out: a node of no cluster. Throws UserError, which says what to do. */
export async function join(
  { config, log, address }: JoinOptions,
  { manager, token: text, listen, advertise }: CheckedJoin,
  member?: Identity,
): Promise<JoinView> {
  const token = parseToken(text);
  const paths = pathsOf(config);
  const files = new IdentityFiles(paths.identity);
  // The key is on disk before it is known to managers: one that was lost would make this machine a stranger.
  const key = await files.ownKey();
  const { name } = config.node;
  const before = member?.settings;
  const given = {
    listen: asSession(listen) ?? before?.listen ?? null,
    advertise: asSession(advertise) ?? before?.advertise ?? null,
  };
  const own = managerAddressOf(config, given, address);
  // A worker never answers there; an operator who names an address means a manager's.
  if (member === undefined && (listen ?? config.cluster.listen) !== undefined) await requireAskedListen(own.listen);
  const body = {
    token: text.trim(),
    request: await createRequest(key, name),
    identity: nodeIdentityOf(config, address, own),
    now: systemClock.now(),
  };
  const answer = await ask(manager, token.digest, { body, clusterId: member?.clusterId });
  const { cluster, nodeId, role, settings, certificate, bundle, bridges, managers, keys } = answer;
  if (keys !== undefined) {
    await lockManagerKeys(files, paths.identity, config.cluster.passphrase, keys);
  }
  await writeNodeSettings(paths.settings, { pool: settings.pool, domain: settings.domain, ...given });
  await files.write({ managers, key, certificate, bundle, bridges });
  log.info("joined a cluster", { node: nodeId, reason: `as a ${role} of cluster ${cluster.id}` });
  return { cluster: cluster.id, nodeId, role };
}

/** `digest`: of the token's CA. `clusterId`: that of a member. */
async function ask(
  first: string,
  digest: string,
  { body, clusterId }: { body: object; clusterId: string | undefined },
): Promise<JoinAnswer> {
  let manager = first;
  for (let tries = 1; ; tries++) {
    try {
      const request = { method: "POST", path: "/v1/join", body, timeoutMs: ANSWER_TIMEOUT_MS } as const;
      const timeoutMs = CONNECT_TIMEOUT_MS;
      const agent = new Agent(await pinnedTls(placeOf(manager), digest, { timeoutMs, clusterId }));
      return JoinAnswer.parse(await call({ address: manager, agent }, request));
    } catch (error) {
      if (error instanceof MisdirectedError && error.managers[0] !== undefined && tries < MAX_TRIES) {
        manager = error.managers[0];
        continue;
      }
      throw refusalOf(manager, error);
    }
  }
}

function placeOf(manager: string): { host: string; port: number } {
  const colon = manager.lastIndexOf(":");
  return { host: manager.slice(0, colon), port: Number(manager.slice(colon + 1)) };
}

/** What a person reads: the manager's own words, or why it could not be asked. */
function refusalOf(manager: string, error: unknown): UserError {
  if (error instanceof UserError)
    return new UserError(error.code, `${manager} refuses: ${error.message}`, { cause: error });
  const refusal = serverRefusal(error instanceof UnreachableError ? error.cause : error, systemClock.now());
  if (refusal !== undefined)
    return new UserError(503, `${manager} is not trusted: ${refusal.message}`, { cause: error });
  if (/^(EPROTO$|ERR_SSL_)/.test((error as NodeJS.ErrnoException).code ?? "")) {
    return new UserError(
      503,
      `${manager} answers, but not as a manager of this version does, with TLS 1.3: is that its address and port, and does overlayd there need an update?`,
      { cause: error },
    );
  }
  const isOfSystem = (error as NodeJS.ErrnoException).syscall !== undefined;
  if (isOfSystem || error instanceof UnreachableError || error instanceof DeadlineError) {
    return new UserError(
      503,
      `cannot reach a manager at ${manager}: ${messageOf(error)}; is that its address, is it a manager, and does a firewall let TCP to it pass?`,
      { cause: error },
    );
  }
  return new UserError(503, `joining by ${manager} failed: ${messageOf(error)}`, { cause: error });
}
