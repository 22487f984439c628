// The other nodes in a person's words, as this node's data path sees them.
import type { PeerView } from "../api/schema.ts";
import { takesLane } from "../cluster/features.ts";
import type { Node } from "../cluster/schema.ts";
import type { State } from "../cluster/tables.ts";
import type { SealedTraffic } from "../datapath/associations.ts";
import type { EngineReport } from "../datapath/engine-report.ts";
import type { ProbeView } from "../datapath/peer-session.ts";
import { formatIpv4 } from "../lib/ip.ts";
import type { NodeKeys } from "./node-keys.ts";
import type { PeerKeysView } from "./peer-keys.ts";

/** What this node knows of its express lane. */
export interface LaneStatus {
  /** Why no flow toward the node with this address goes in the lane, in a word; null: flows do. */
  whyOff(address: string): string | null;
  /** Whether segments from peers go by the containers' links, for they come singly. */
  readonly goesByLink: boolean;
}

/** Loops over all nodes, when a person asks. `nodeName` is the node that answers. */
export function peerViews(
  state: State,
  nodeName: string,
  { probes, traffic, sealed }: Pick<EngineReport, "probes" | "traffic" | "sealed">,
  lane: LaneStatus,
  keys: NodeKeys,
): PeerView[] {
  const probesByAddress = new Map(probes.map((probe) => [formatIpv4(probe.vtep), probe]));
  const trafficByAddress = new Map(traffic.map((counts) => [formatIpv4(counts.vtep), counts]));
  const sealedByAddress = new Map(sealed.map((counts) => [formatIpv4(counts.vtep), counts]));
  return [...state.nodes.values()]
    .filter(({ name }) => name !== nodeName)
    .sort((a, b) => a.name.localeCompare(b.name))
    .map((node) => {
      const probe = probesByAddress.get(node.address);
      const { rxPackets = 0, txPackets = 0, rxBytes = 0, txBytes = 0 } = trafficByAddress.get(node.address) ?? {};
      const laneReason = whyLaneIsOff(node, lane);
      return {
        name: node.name,
        address: node.address,
        state: probe?.state ?? "init",
        reason: probe === undefined ? null : reasonOf(probe, node.vxlanPort, node.state === "ready"),
        rttMs: probe?.rttMs ?? null,
        mtu: probe?.mtu ?? null,
        lane: laneReason === null ? "on" : "off",
        laneReason,
        laneDelivery: laneReason !== null ? null : lane.goesByLink ? "by-link" : "at-once",
        ...sealingOf(node, keys, sealedByAddress.get(node.address)),
        rxPackets,
        txPackets,
        rxBytes,
        txBytes,
        tasks: state.tasks.by("node", node.id).filter(({ id }) => state.statuses.get(id)?.state === "running").length,
        certificateExpires: node.certificateExpires,
      };
    });
}

type SealingFields =
  | ("sealed" | "sealedReason" | "keysAgeMs" | "rekeys")
  | ("sealedPackets" | "openedPackets" | "badSeals" | "replayed");

/** This node's own reason comes first here too. */
function sealingOf(node: Node, keys: NodeKeys, traffic: SealedTraffic | undefined): Pick<PeerView, SealingFields> {
  const { sealed = 0, opened = 0, badSeals = 0, replayed = 0 } = traffic ?? {};
  const view = keys.peers?.view(node.id);
  const counts = { sealedPackets: sealed, openedPackets: opened, badSeals, replayed };
  const hasKeys = view?.hasKeys ?? false;
  return {
    sealed: hasKeys ? "on" : "off",
    sealedReason: keys.whyNot === undefined ? whyNotSealed(node, view) : `this node cannot seal: ${keys.whyNot}`,
    keysAgeMs: view?.ageMs ?? null,
    rekeys: hasKeys ? view!.rekeys : null,
    ...counts,
  };
}

function whyNotSealed({ sealed }: Node, view: PeerKeysView | undefined): string | null {
  if (sealed === null) return "its agent cannot seal: it is older, or its log says why";
  return view === undefined ? "no key yet" : view.reason;
}

/** This node's own reason comes first: while it has one, nothing that is done to the peer helps. */
function whyLaneIsOff(node: Node, lane: LaneStatus): string | null {
  return lane.whyOff(node.address) ?? (takesLane(node) ? null : "older-agent");
}

/** The reason why a peer is not up, from its probes and from its state at the leader. */
function reasonOf(peer: ProbeView, port: number, isReady: boolean): string | null {
  if (peer.state === "up") return null;
  if (peer.clearLost === "here")
    return `its sealed probes arrive, its clear ones do not: UDP ${port} of this node is blocked`;
  if (peer.clearLost === "there")
    return `our sealed probes arrive there, our clear ones do not: UDP ${port} to it is blocked`;
  if (peer.remoteState !== null) return `its probes arrive, ours do not: UDP ${port} to it is blocked`;
  const since = peer.silentMs === null ? "ever" : `for ${Math.round(peer.silentMs / 1000)} s`;
  if (isReady) return `no probe from it ${since}, but its agent has a session: UDP ${port} is blocked on the way`;
  return `no probe from it ${since}, and no session: its agent or the machine is down`;
}
