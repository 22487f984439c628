// The BFD session with one peer, as the probes keep it (probes.ts).
import type { Ipv4 } from "../lib/ip.ts";
import { BfdState, Diagnostic } from "../packet/bfd.ts";
import { type ClearLost, ClearWay } from "./clear-way.ts";
import { PathMtu } from "./path-mtu.ts";
import { clearMtu } from "./sealed-way.ts";

/** Milliseconds between two packets that are received from the peer, at least. */
export const INTERVAL_MS = 300;
/** Packets that may be missing before the peer counts as silent. */
export const MULTIPLIER = 3;
/** RFC 5880 section 6.8.3: the interval while the session is not up, at least. */
export const SLOW_INTERVAL_MS = 1000;
/** A new peer counts as reachable for this time, in which it can answer. */
const GRACE_MS = 2000;

/** What a person may want to know of one peer. */
export interface ProbeView {
  vtep: Ipv4;
  state: "up" | "init" | "down";
  /** What the peer's last packet said of its side; null: none came in the detection time. */
  remoteState: "up" | "init" | "down" | null;
  /** The end that misses clear probes beside sealed ones that come; null: none does. Such a peer is no more than down. */
  clearLost: ClearLost | null;
  rttMs: number | null;
  /** Milliseconds since a packet came; null: never. */
  silentMs: number | null;
  /** Bytes that an inner packet may have to reach it whole. */
  mtu: number;
}

export interface PeerSession {
  readonly vtep: Ipv4;
  readonly path: PathMtu;
  readonly clear: ClearWay;
  /** Bytes of the largest packet that fits the underlay link. */
  maxMtu: number;
  readonly createdMs: number;
  readonly discriminator: number;
  state: BfdState;
  diagnostic: number;
  remoteState: BfdState;
  remoteDiscriminator: number;
  remoteMinRxMs: number;
  detectionMs: number;
  receivedMs: number; // -1: never
  nextSendMs: number;
  pollSentMs: number; // -1: no poll is under way
  nextPollMs: number;
  rttMs: number; // -1: not measured
  // The last poll about a size: what it was about, how long its inner packet was, and whether it went sealed.
  polledMtu: number;
  polledBytes: number;
  isSealed: boolean;
  // As of the last look for news.
  wasReachable: boolean;
  reportedMtu: number;
  /** The MTU that entries of the express lane may have. */
  laneMtu: number;
}

/** A session that begins. `mtu` is what fits the underlay link; `random` chooses the discriminator, which only the peer is to learn. */
export function openSession(vtep: Ipv4, mtu: number, nowMs: number, random: () => number): PeerSession {
  return {
    vtep,
    path: new PathMtu(mtu),
    clear: new ClearWay(),
    maxMtu: mtu,
    createdMs: nowMs,
    discriminator: 1 + Math.floor(random() * 0x7ffffffe),
    state: BfdState.Down,
    diagnostic: Diagnostic.None,
    remoteState: BfdState.Down,
    remoteDiscriminator: 0,
    remoteMinRxMs: 0,
    detectionMs: SLOW_INTERVAL_MS * MULTIPLIER,
    receivedMs: -1,
    nextSendMs: nowMs,
    pollSentMs: -1,
    nextPollMs: nowMs,
    rttMs: -1,
    polledMtu: 0,
    polledBytes: 0,
    isSealed: false,
    wasReachable: true,
    reportedMtu: mtu,
    laneMtu: mtu,
  };
}

/** Bytes of the largest clear packet that passes. Sealed polls tell sizes in steps of a word; the largest one is the link's own. */
export function mtuOf({ path, maxMtu, isSealed }: PeerSession): number {
  return isSealed && path.mtu < maxMtu ? clearMtu(path.mtu) : path.mtu;
}

/** Whether new flows may go to the peer. */
export function isReachable({ state, clear, receivedMs, createdMs }: PeerSession, nowMs: number): boolean {
  if (state === BfdState.Up) return clear.lost(nowMs) === undefined;
  return receivedMs < 0 && nowMs - createdMs < GRACE_MS;
}

/** Whether reachability or path MTU changed since the last call: then the other workers must hear of it. */
export function hasNews(session: PeerSession, nowMs: number): boolean {
  const reachable = isReachable(session, nowMs);
  const mtu = mtuOf(session);
  if (reachable === session.wasReachable && mtu === session.reportedMtu) return false;
  session.wasReachable = reachable;
  session.reportedMtu = mtu;
  return true;
}

export function viewOf(session: PeerSession, nowMs: number): ProbeView {
  const isHeard =
    session.receivedMs >= 0 &&
    nowMs - session.receivedMs <= Math.max(session.detectionMs, SLOW_INTERVAL_MS * MULTIPLIER);
  const clearLost = (session.state === BfdState.Up && session.clear.lost(nowMs)) || null;
  return {
    vtep: session.vtep,
    state: clearLost === null ? stateName(session.state) : "down",
    remoteState: isHeard ? stateName(session.remoteState) : null,
    clearLost,
    rttMs: session.state === BfdState.Up && session.rttMs >= 0 ? session.rttMs : null,
    silentMs: session.receivedMs < 0 ? null : nowMs - session.receivedMs,
    mtu: mtuOf(session),
  };
}

function stateName(state: BfdState): "up" | "init" | "down" {
  if (state === BfdState.Up) return "up";
  return state === BfdState.Init ? "init" : "down";
}
