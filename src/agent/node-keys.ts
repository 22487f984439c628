// The keys of this node with its peers, joined with what it needs to know: the state says which nodes can seal, the data path puts keys in
// force and says which are wanted.
import type { AppliedChange } from "../cluster/state.ts";
import type { State } from "../cluster/tables.ts";
import { systemClock } from "../lib/clock.ts";
import { ipv4 } from "../lib/ip.ts";
import { secureRandom } from "../lib/random.ts";
import type { DataPath } from "../worker/data-path.ts";
import type { Host } from "./host.ts";
import type { Membership } from "./membership.ts";
import type { AgentOptions } from "./options.ts";
import type { Parts } from "./parts.ts";
import { type KeyPeer, PeerKeys } from "./peer-keys.ts";
import type { Sealing } from "./sealing.ts";
import { differs } from "./units.ts";

type NodeKeysOptions = Pick<AgentOptions, "identity" | "log"> &
  Pick<Host, "address"> &
  Pick<Membership, "nodeState"> & { sealing: Sealing; dataPath: DataPath };

/** Where a person asks how this node stands with its peers. */
export interface NodeKeys {
  /** Why this node cannot seal, for any peer; undefined: it can. */
  readonly whyNot: string | undefined;
  readonly peers: Pick<PeerKeys, "view" | "keysWith"> | undefined;
}

/** From now on this node agrees on keys. */
export function startKeys(options: NodeKeysOptions, parts: Parts): NodeKeys {
  const { sealing, identity, log, address, nodeState, dataPath } = options;
  if ("why" in sealing) return { whyNot: sealing.why, peers: undefined };
  const { credentials, nodeId: ownId, clusterId } = identity;
  const keys = new PeerKeys({
    ...{ credentials, ownId, clusterId, address, log, path: dataPath, listener: sealing.listener },
    clock: systemClock,
    random: secureRandom,
  });
  parts.add(keys);
  dataPath.onKeysWanted = (vteps) => keys.wanted(vteps);
  // A peer that cannot be reached may have started again without being able to dial, so that the keys here are worth nothing.
  const { onHealth } = dataPath;
  dataPath.onHealth = (report) => {
    onHealth(report);
    keys.wanted(report.unreachable);
  };
  const look = (): void => keys.setPeers(peersOf(nodeState.state, ownId));
  parts.add({ stop: nodeState.subscribe((changes) => changes.some(concerns) && look()) });
  look();
  return { whyNot: undefined, peers: keys };
}

/** The other nodes that can seal. It looks at every node, when one comes, goes or is elsewhere. */
function peersOf({ nodes }: State, ownId: string): KeyPeer[] {
  return [...nodes.values()].flatMap(({ id, name, address, sealed }) =>
    id === ownId || sealed === null ? [] : [{ id, name, address, vtep: ipv4(address), keyPort: sealed.keyPort }],
  );
}

function concerns(change: AppliedChange): boolean {
  return change.kind === "nodes" && differs(change, "name", "address", "sealed");
}
