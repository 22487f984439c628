// Whether peers answer on the VXLAN port itself: one BFD session a peer (RFC 5880, asynchronous mode), framed as
// RFC 8971 says in the management VNI. Polls measure the round trip, and padded ones (RFC 9764) the path's MTU.
//
//   Down --(peer Down)--> Init --(peer Init or Up)--> Up        Down --(peer Init)--> Up
//   Init, Up --(peer AdminDown, detection time over)--> Down    Up --(peer Down)--> Down
import type { Ipv4 } from "../lib/ip.ts";
import * as bfd from "../packet/bfd.ts";
import { BfdFlag, BfdState, Diagnostic } from "../packet/bfd.ts";
import type { Sum } from "../packet/checksum.ts";
import { Drop } from "../packet/drop.ts";
import * as ip from "../packet/ipv4.ts";
import type { PacketMemory } from "../packet/memory.ts";
import * as udp from "../packet/udp.ts";
import type { Egress } from "./egress.ts";
import { OwnPackets } from "./own-packets.ts";
import type { HealthReport, PeerHealth } from "./peer-health.ts";
import {
  hasNews,
  INTERVAL_MS,
  isReachable,
  MULTIPLIER,
  mtuOf,
  openSession,
  type PeerSession,
  type ProbeView,
  SLOW_INTERVAL_MS,
  viewOf,
} from "./peer-session.ts";
import type { Grounds } from "./ports.ts";
import { FRAME_BYTES, isProbe, PACKET_BYTES, writeProbe } from "./probe-frame.ts";
import type { PeerRow } from "./rows.ts";
import { sealedMtu } from "./sealed-way.ts";
import type { Tables } from "./tables.ts";

const POLL_EVERY_MS = 1000;
const MAX_PADDING_BYTES = 65536;

interface ProbesOptions {
  memory: PacketMemory;
  sum: Sum;
  tables: Tables;
  egress: Pick<Egress, "probe" | "datagram" | "seals" | "flush">;
  /** Hears of each peer whose health changed. */
  lane?: Grounds | undefined;
  /** Milliseconds, monotonic. */
  now: () => number;
  random: () => number;
}

export class Probes implements PeerHealth {
  readonly #u8: Uint8Array;
  readonly #sum: Sum;
  readonly #tables: Tables;
  readonly #egress: Pick<Egress, "probe" | "datagram" | "seals" | "flush">;
  readonly #lane: Grounds | undefined;
  readonly #now: () => number;
  readonly #random: () => number;
  readonly #sessionsByVtep = new Map<Ipv4, PeerSession>(); // BOUNDED: by the peers; keyed by VTEP
  readonly #slots: OwnPackets;
  readonly #zeros: number;
  /** The lowest of all mtuOf(), or less until the next tick. */
  smallestMtu = 0;
  /** Whether healthReport() says something else than when it was called last. */
  hasNews = true;

  constructor({ memory, sum, tables, egress, lane, now, random }: ProbesOptions) {
    this.#u8 = memory.u8;
    this.#sum = sum;
    this.#tables = tables;
    this.#egress = egress;
    this.#lane = lane;
    this.#now = now;
    this.#random = random;
    this.#slots = new OwnPackets(memory, FRAME_BYTES, () => egress.flush());
    this.#zeros = memory.alloc(MAX_PADDING_BYTES);
  }

  /** Whether new flows may go to the peer. One that cannot answer probes always counts as reachable. */
  isReachable(vtep: Ipv4): boolean {
    const session = this.#sessionsByVtep.get(vtep);
    if (session === undefined) return this.#tables.peers.get(vtep)?.agent === false;
    return isReachable(session, this.#now());
  }

  mtuOf(vtep: Ipv4): number {
    const session = this.#sessionsByVtep.get(vtep);
    return session === undefined ? this.#tables.node.mtu : mtuOf(session);
  }

  /** The report for the other workers. It looks at every session: call it when there is news. */
  healthReport(): HealthReport {
    this.hasNews = false;
    const sessions = [...this.#sessionsByVtep.values()];
    return {
      unreachable: sessions.map(({ vtep }) => vtep).filter((vtep) => !this.isReachable(vtep)),
      mtus: sessions
        .filter(({ path }) => path.mtu < this.#tables.node.mtu)
        .map((session) => [session.vtep, mtuOf(session)] as const),
    };
  }

  views(): ProbeView[] {
    const now = this.#now();
    return [...this.#sessionsByVtep.values()].map((session) => viewOf(session, now));
  }

  /** The peer's row came, went or changed. There is a session with each peer that runs an agent, and with no other. */
  update(vtep: Ipv4): void {
    const isAgent = this.#tables.peers.get(vtep)?.agent === true;
    if (isAgent === this.#sessionsByVtep.has(vtep)) return;
    this.hasNews = true;
    if (!isAgent) {
      this.#sessionsByVtep.delete(vtep);
      return;
    }
    const session = openSession(vtep, this.#tables.node.mtu, this.#now(), this.#random);
    this.#sessionsByVtep.set(vtep, session);
    this.smallestMtu = Math.min(this.smallestMtu, session.path.mtu);
    this.#sendPeriodic(session, session.createdMs);
  }

  /** Each path is measured anew when `mtu`, what fits the underlay link, is another than before. */
  setMaxMtu(mtu: number): void {
    for (const session of this.#sessionsByVtep.values()) {
      if (session.maxMtu === mtu) continue;
      session.maxMtu = mtu;
      session.path.restart(mtu);
      session.laneMtu = session.path.mtu; // a change of the node's MTU makes every entry void anyway
    }
    this.#findSmallestMtu();
  }

  /** Sends what is due and notices silence, ten times a second for each peer. Returns the milliseconds until it wants to be called again. */
  tick(): number {
    const now = this.#now();
    let next = SLOW_INTERVAL_MS;
    for (const session of this.#sessionsByVtep.values()) {
      if (session.state >= BfdState.Init && now - session.receivedMs > session.detectionMs) {
        this.#become(session, BfdState.Down, Diagnostic.TimeExpired);
        // RFC 5880 section 6.8.1. A peer that sends nothing may still receive: the packet before had its own discriminator. A peer that
        // has begun anew gets packets without one.
        session.remoteDiscriminator = 0;
        session.remoteMinRxMs = 0;
        session.nextSendMs = now;
      }
      if (now >= session.nextSendMs) this.#sendPeriodic(session, now);
      next = Math.min(next, session.nextSendMs - now);
      if (hasNews(session, now)) this.hasNews = true;
      this.#loseOtherMtu(session);
      if (session.state !== BfdState.Up) continue;
      const bytes = session.path.next(now, session.rttMs);
      if (bytes > 0) this.#pollSize(session, bytes);
      next = Math.min(next, session.path.dueMs - now);
    }
    this.#findSmallestMtu();
    return Math.max(1, next);
  }

  /** As PeerHealth says. RFC 5880 section 6.8.6. */
  receive(at: number, type: number, bytes: number, peer: PeerRow, isSealed: boolean): Drop {
    const session = this.#sessionsByVtep.get(peer.vtep);
    if (session === undefined || !isProbe(this.#u8, at, type, bytes)) return Drop.BadBfd;
    const u8 = this.#u8;
    const message = at + ip.IPV4_BYTES + udp.UDP_BYTES;
    const yours = bfd.yourDiscriminator(u8, message);
    if (yours !== 0 && yours !== session.discriminator) return Drop.BadBfd;
    if (yours === 0) {
      this.#hearStranger(session, bfd.myDiscriminator(u8, message), bfd.bfdState(u8, message));
      return Drop.None;
    }
    const now = this.#now();
    session.receivedMs = now;
    session.remoteDiscriminator = bfd.myDiscriminator(u8, message);
    session.remoteState = bfd.bfdState(u8, message);
    session.remoteMinRxMs = bfd.requiredMinRx(u8, message) / 1000;
    session.detectionMs =
      bfd.detectMultiplier(u8, message) * Math.max(INTERVAL_MS, bfd.desiredMinTx(u8, message) / 1000);
    if (isSealed) session.clear.heardSealed(now, bfd.diagnostic(u8, message) === Diagnostic.PathDown);
    else session.clear.forget();
    const flags = bfd.bfdFlags(u8, message);
    // A Final is as long as its Poll, so that it tells which it answers, and that both ways carry that size.
    const packetBytes = ip.totalLength(u8, at);
    if ((flags & BfdFlag.Final) !== 0) this.#final(session, packetBytes, now);
    this.#step(session);
    if ((flags & BfdFlag.Poll) !== 0) this.#transmit(session, BfdFlag.Final, packetBytes);
    return Drop.None;
  }

  /** As PeerHealth says. */
  receiveClear(at: number, type: number, bytes: number, peer: PeerRow): Drop {
    const session = this.#sessionsByVtep.get(peer.vtep);
    if (session === undefined || !isProbe(this.#u8, at, type, bytes)) return Drop.ClearPacket;
    const message = at + ip.IPV4_BYTES + udp.UDP_BYTES;
    if (bfd.yourDiscriminator(this.#u8, message) !== session.discriminator) return Drop.ClearPacket;
    session.clear.heardClear(this.#now());
    return Drop.None;
  }

  /**
   * Takes a packet that does not name our discriminator, which only the peer knows: it may come from a peer that begins anew, or be
   * forged. The node believes nothing that it says. While Up, it is ignored: a peer that has begun anew falls silent under its old
   * discriminator within the detection time. In other states it is answered under the discriminator that it gives: only the real
   * peer gets the answer, and proves that by naming ours.
   */
  #hearStranger(session: PeerSession, discriminator: number, state: BfdState): void {
    if (session.state === BfdState.Up || state !== BfdState.Down) return;
    session.receivedMs = this.#now();
    session.remoteState = state;
    session.remoteDiscriminator = discriminator;
    session.detectionMs = SLOW_INTERVAL_MS * MULTIPLIER;
    if (session.state === BfdState.Down) this.#become(session, BfdState.Init, session.diagnostic);
    else this.#transmit(session, 0, PACKET_BYTES);
  }

  /** Asks whether clear packets of `bytes` pass; to a peer that has keys by a sealed one that is as long on the underlay. */
  #pollSize(session: PeerSession, bytes: number): void {
    const peer = this.#tables.peers.get(session.vtep);
    session.isSealed = peer !== undefined && this.#egress.seals(peer);
    session.polledMtu = bytes;
    session.polledBytes = session.isSealed ? sealedMtu(bytes) : bytes;
    this.#transmit(session, BfdFlag.Poll, session.polledBytes);
  }

  #final(session: PeerSession, packetBytes: number, now: number): void {
    if (packetBytes > PACKET_BYTES) {
      if (packetBytes === session.polledBytes) session.path.answered(session.polledMtu, now);
      this.#loseOtherMtu(session);
      this.#findSmallestMtu();
    } else if (session.pollSentMs >= 0) {
      session.rttMs = now - session.pollSentMs;
      session.pollSentMs = -1;
    }
  }

  /** Entries of the express lane may have the path's MTU from before. */
  #loseOtherMtu(session: PeerSession): void {
    const { mtu } = session.path;
    if (mtu === session.laneMtu) return;
    session.laneMtu = mtu;
    this.#lane?.lose(session.vtep);
  }

  #findSmallestMtu(): void {
    let smallest = this.#tables.node.mtu;
    for (const session of this.#sessionsByVtep.values()) smallest = Math.min(smallest, mtuOf(session));
    this.smallestMtu = smallest;
  }

  #step(session: PeerSession): void {
    const { state, remoteState } = session;
    if (remoteState === BfdState.AdminDown) {
      if (state !== BfdState.Down) this.#become(session, BfdState.Down, Diagnostic.NeighborDown);
    } else if (state === BfdState.Down) {
      if (remoteState === BfdState.Down) this.#become(session, BfdState.Init, session.diagnostic);
      else if (remoteState === BfdState.Init) this.#become(session, BfdState.Up, Diagnostic.None);
    } else if (state === BfdState.Init) {
      if (remoteState >= BfdState.Init) this.#become(session, BfdState.Up, Diagnostic.None);
    } else if (remoteState === BfdState.Down) this.#become(session, BfdState.Down, Diagnostic.NeighborDown);
  }

  /** Sends a change of state at once, so that a session comes up in one round trip. */
  #become(session: PeerSession, state: BfdState, diagnostic: number): void {
    session.state = state;
    session.diagnostic = diagnostic;
    session.pollSentMs = -1;
    session.nextSendMs = session.nextPollMs = this.#now();
    if (state === BfdState.Up) session.path.restart(session.maxMtu); // another way to the peer, maybe
    this.#sendPeriodic(session, session.nextSendMs);
  }

  #sendPeriodic(session: PeerSession, now: number): void {
    const isUp = session.state === BfdState.Up;
    const interval = Math.max(isUp ? INTERVAL_MS : SLOW_INTERVAL_MS, session.remoteMinRxMs);
    session.nextSendMs = now + interval * (0.75 + 0.25 * this.#random()); // RFC 5880 section 6.8.7
    let flags = 0;
    if (isUp && (now >= session.nextPollMs || session.pollSentMs >= 0)) {
      flags = BfdFlag.Poll;
      session.pollSentMs = now;
      session.nextPollMs = now + POLL_EVERY_MS;
    }
    this.#transmit(session, flags, PACKET_BYTES);
    const peer = isUp ? this.#tables.peers.get(session.vtep) : undefined;
    if (peer === undefined || !this.#egress.seals(peer) || !session.clear.isDue(now)) return;
    this.#egress.datagram(this.#write(session, 0, PACKET_BYTES), FRAME_BYTES, peer);
  }

  /** Sends a probe whose inner IP packet is padded to `packetBytes`. */
  #transmit(session: PeerSession, flags: number, packetBytes: number): void {
    const peer = this.#tables.peers.get(session.vtep);
    if (peer === undefined) return;
    const frame = this.#write(session, flags, packetBytes);
    this.#egress.probe(frame, FRAME_BYTES, this.#zeros, packetBytes - PACKET_BYTES, peer);
  }

  /** Returns where the frame is, until the next flush. */
  #write(session: PeerSession, flags: number, packetBytes: number): number {
    const frame = this.#slots.take();
    const isUp = session.state === BfdState.Up;
    const interval = isUp ? INTERVAL_MS : SLOW_INTERVAL_MS;
    writeProbe(this.#u8, this.#sum, frame, this.#tables.node.vtep, packetBytes, {
      state: session.state,
      diagnostic: isUp && session.clear.lost(this.#now()) === "here" ? Diagnostic.PathDown : session.diagnostic,
      flags,
      detectMultiplier: MULTIPLIER,
      myDiscriminator: session.discriminator,
      yourDiscriminator: session.remoteDiscriminator,
      desiredMinTxMicros: interval * 1000,
      requiredMinRxMicros: INTERVAL_MS * 1000,
    });
    return frame;
  }
}
