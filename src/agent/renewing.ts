// Keeps this node's certificate good: the state says whose certificates the cluster takes, who signs them and which role this
// node has; a manager signs a new one in time (trust/renewal.ts).
import { RenewAnswer } from "../cluster/join-protocol.ts";
import { storeTrustOf, trustOf } from "../cluster/lookup.ts";
import type { AppliedChange } from "../cluster/state.ts";
import { systemClock } from "../lib/clock.ts";
import { messageOf, UserError } from "../lib/errors.ts";
import { call } from "../lib/http.ts";
import { systemRandom } from "../lib/random.ts";
import { publicKeyDigest } from "../trust/certificates.ts";
import { lockManagerKeys } from "../trust/passphrase.ts";
import { Renewal } from "../trust/renewal.ts";
import type { ManagerPart } from "./manager-part.ts";
import type { Membership } from "./membership.ts";
import type { AgentOptions } from "./options.ts";
import type { Parts } from "./parts.ts";
import { pathsOf } from "./paths.ts";

const ANSWER_TIMEOUT_MS = 20_000;
/** A manager signs some hundreds a second: so many nodes renew within a second when the CA changes. */
const NODES_PER_SECOND = 100;

interface RenewingOptions
  extends Pick<AgentOptions, "config" | "identity" | "log" | "onStartAgain">,
    Pick<Membership, "session" | "nodeState" | "connections"> {
  /** What this node runs as a manager; undefined: it is a worker. */
  manager(): ManagerPart | undefined;
}

/** From now on the certificate is renewed in time. A new role makes the agent start its parts again. */
export function startRenewing(options: RenewingOptions, parts: Parts): void {
  const { identity, log, session, nodeState, onStartAgain } = options;
  const { credentials, files } = identity;
  // Keys of a manager that was demoted go once the worker's certificate is on the disk.
  if (identity.role === "worker") {
    files.removeManagerKeys().catch((error: unknown) => {
      log.error("the keys of a manager are still on this worker's disk", { reason: messageOf(error) });
    });
  }
  const renewal = new Renewal({
    ...{ credentials, files, log, clock: systemClock, random: systemRandom },
    renew: (request) => renew(options, request),
  });
  parts.add(renewal);
  const want = (): void => {
    const { state } = nodeState;
    const [trust, own] = [trustOf(state), state.nodes.get(session.nodeId ?? "")];
    if (trust === undefined || own === undefined) return;
    const { bundle, bridges = [], signer } = trust;
    const spreadMs = (state.nodes.size / NODES_PER_SECOND) * 1000;
    const ring = options.manager()?.ring;
    const authorities = [...bundle, ...(storeTrustOf(state)?.bundle ?? [])];
    const lacksKey = ring !== undefined && authorities.some((authority) => !ring.has(publicKeyDigest(authority)));
    renewal.want({ bundle, bridges, signer, role: own.role, lacksKey, spreadMs }).catch((error: unknown) => {
      log.error("the certificates that the cluster takes are not on this node's disk", { reason: messageOf(error) });
    });
  };
  parts.add({
    stop: nodeState.subscribe((changes) => changes.some((change) => concerns(change, session.nodeId)) && want()),
  });
  parts.add({
    stop: credentials.onChange(() => {
      want(); // a manager may have got the keys that it lacked
      const { subject } = credentials;
      if (subject.kind === "node" && subject.role !== identity.role) {
        onStartAgain(`this node is a ${subject.role} now`);
      }
    }),
  });
  want();
  renewal.start();
}

function concerns({ kind, key }: AppliedChange, nodeId: string | undefined): boolean {
  return kind === "trust" || (kind === "nodes" && key === nodeId);
}

/** Has the leader sign the request, and keeps what else it answers. */
async function renew(options: RenewingOptions, request: string): Promise<RenewAnswer> {
  const { identity } = options;
  const answer = await ask(options, request);
  const { managers, keys } = answer;
  const { files } = identity;
  const ring = options.manager()?.ring;
  if (keys !== undefined && ring !== undefined) await ring.replace(keys);
  else if (keys !== undefined) {
    const { config } = options;
    await lockManagerKeys(files, pathsOf(config).identity, config.cluster.passphrase, keys);
    if (options.manager()?.lacksKeys) setImmediate(options.onStartAgain, "this manager has its keys again");
  }
  await files.writeManagers(managers);
  return answer;
}

/** The leader in this process is asked there: it signs for its own node although that one's certificate has ended. */
async function ask(
  { manager, identity, session, connections }: RenewingOptions,
  request: string,
): Promise<RenewAnswer> {
  const joining = manager()?.leads?.joining;
  if (joining !== undefined) {
    // This process has the keys, and may be about to change them.
    const { keys: _, ...own } = await joining.renew({ request }, { subject: identity.credentials.subject, from: null });
    return own;
  }
  const { manager: leader } = session;
  if (leader === undefined) throw new UserError(503, `no leader answers (${session.problem ?? "none was asked yet"})`);
  const at = { address: leader, agent: connections.agent };
  const body = { request };
  return RenewAnswer.parse(await call(at, { method: "POST", path: "/v1/renew", body, timeoutMs: ANSWER_TIMEOUT_MS }));
}
