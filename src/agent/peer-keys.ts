// The keys that this node agrees on with every other node that can seal (peer-exchange.ts): who dials, and when. A node without a key for a
// peer dials at once; keys are changed each hour, and the lower id of two dials for that. Keys are in memory only, and never in a log.
import type { TLSSocket } from "node:tls";
import { Backoff } from "../lib/backoff.ts";
import type { Clock, Timer } from "../lib/clock.ts";
import { messageOf } from "../lib/errors.ts";
import type { Ipv4 } from "../lib/ip.ts";
import type { Log } from "../lib/log.ts";
import type { Random } from "../lib/random.ts";
import { RepeatedReasons } from "../lib/repeated-reasons.ts";
import type { Credentials } from "../trust/credentials.ts";
import { diallerOf, PeerDialer } from "../trust/peer-tls.ts";
import { KeyDials } from "./key-dials.ts";
import type { KeyListener } from "./key-listener.ts";
import { PeerAssociations, type SealedPath } from "./peer-associations.ts";
import { EXCHANGE_MS, exchangeKeys, watchExchange } from "./peer-exchange.ts";
import { PeerMessages } from "./peer-messages.ts";
import { SpiPool } from "./spi-pool.ts";
import { whyNoAnswer } from "./why-no-answer.ts";

const REKEY_MS = 3_600_000;
/** The higher id dials as late as this, for when the lower one cannot. */
const LATE_REKEY_MS = 1.1 * REKEY_MS;
/** Nodes of one start change their keys spread over this part of the time. */
const SPREAD = 0.1;
const FIRST_PAUSE_MS = 1000;
const LONGEST_PAUSE_MS = 60_000;
/** How long a machine may take to answer at all: one that is down keeps others from being dialled. */
const CONNECT_MS = 5000;
/** How long a peer that packets wait for is left alone after a failure, or with new keys. */
const WANTED_PAUSE_MS = 5000;

/** A node that can seal. */
export interface KeyPeer {
  id: string;
  name: string;
  vtep: Ipv4;
  address: string;
  keyPort: number;
}

/** How this node stands with a peer. */
export interface PeerKeysView {
  hasKeys: boolean;
  /** Why there are no keys, or none newer; null: all is well. */
  reason: string | null;
  ageMs: number | null;
  rekeys: number;
}

interface PeerKeysOptions {
  credentials: Credentials;
  ownId: string;
  clusterId: string;
  /** This node's own address. */
  address: string;
  listener: KeyListener;
  path: SealedPath;
  clock: Clock;
  random: Random;
  log: Log;
}

interface Peer {
  readonly node: KeyPeer;
  readonly associations: PeerAssociations;
  readonly backoff: Backoff;
  readonly reasons: RepeatedReasons;
  /** Exchanges that are not done. BOUNDED: by the listener, and one of this node. */
  readonly sockets: Set<TLSSocket>;
  /** Until the next dial. */
  timer: Timer | undefined;
  /** When the last exchange failed, in monotonic milliseconds. */
  failedMs: number;
  reason: string | null;
}

export class PeerKeys {
  readonly #options: PeerKeysOptions;
  readonly #dialer: PeerDialer;
  readonly #spis = new SpiPool();
  readonly #dials = new KeyDials<Peer>((peer) => this.#dial(peer));
  readonly #peers = new Map<string, Peer>(); // BOUNDED: by the nodes; keyed by id
  readonly #byVtep = new Map<Ipv4, Peer>(); // BOUNDED: by the nodes
  /** Connections of nodes that are not known to be peers yet. BOUNDED: by the listener. */
  readonly #unknown = new Set<TLSSocket>();
  #addresses: ReadonlySet<string> = new Set();
  #isStopped = false;

  constructor(options: PeerKeysOptions) {
    this.#options = options;
    this.#dialer = new PeerDialer(options.credentials);
    options.listener.answer({
      credentials: options.credentials,
      isNode: (address) => this.#addresses.has(address),
      answer: (socket) => void this.#answer(socket),
    });
  }

  /** Takes these as the nodes that can seal. What was agreed on with others goes, before a node of another id may have their address. */
  setPeers(nodes: readonly KeyPeer[]): void {
    if (this.#isStopped) return;
    const nodesById = new Map(nodes.map((node) => [node.id, node]));
    this.#addresses = new Set(nodes.map(({ address }) => address));
    for (const peer of [...this.#peers.values()]) {
      if (!isSame(peer.node, nodesById.get(peer.node.id))) this.#forget(peer);
    }
    for (const node of nodes) if (!this.#peers.has(node.id)) this.#add(node);
  }

  /** Packets to these peers have no key, or an old one. */
  wanted(vteps: readonly Ipv4[]): void {
    for (const vtep of vteps) {
      const peer = this.#byVtep.get(vtep);
      if (peer !== undefined) this.#want(peer);
    }
  }

  view(id: string): PeerKeysView | undefined {
    const peer = this.#peers.get(id);
    if (peer === undefined) return undefined;
    const { hasKeys, ageMs, rekeys } = peer.associations;
    return { hasKeys, ageMs: ageMs ?? null, rekeys, reason: peer.reason ?? (hasKeys ? null : "no key yet") };
  }

  /** The keys with one peer, for a person who looks into its packets; undefined: it is no node that can seal. */
  keysWith(id: string): ReturnType<PeerAssociations["keys"]> | undefined {
    return this.#peers.get(id)?.associations.keys();
  }

  /** Exchanges that are not done. */
  get underWay(): number {
    return [...this.#peers.values()].reduce((sum, { sockets }) => sum + sockets.size, 0);
  }

  async stop(): Promise<void> {
    this.#isStopped = true;
    this.#dials.stop();
    this.#dialer.close();
    for (const { timer, sockets, associations } of this.#peers.values()) {
      timer?.cancel();
      for (const socket of sockets) socket.destroy();
      associations.stop();
    }
    for (const socket of this.#unknown) socket.destroy();
    await this.#options.listener.close();
  }

  #add(node: KeyPeer): void {
    const { ownId, path, clock, log } = this.#options;
    const onFailure = (error: unknown): void =>
      log.error("keys that nothing needs any more are still in force", { peer: node.name, reason: messageOf(error) });
    const { id: peerId, vtep } = node;
    const peer: Peer = {
      node,
      associations: new PeerAssociations({ vtep, ownId, peerId, path, spis: this.#spis, clock, onFailure }),
      backoff: new Backoff(FIRST_PAUSE_MS, LONGEST_PAUSE_MS),
      reasons: new RepeatedReasons(clock),
      sockets: new Set(),
      timer: undefined,
      failedMs: Number.NEGATIVE_INFINITY,
      reason: null,
    };
    this.#peers.set(peerId, peer);
    this.#byVtep.set(vtep, peer);
    this.#dials.add(peer);
  }

  #forget(peer: Peer): void {
    const { log } = this.#options;
    this.#peers.delete(peer.node.id);
    if (this.#byVtep.get(peer.node.vtep) === peer) this.#byVtep.delete(peer.node.vtep);
    this.#dials.remove(peer);
    peer.timer?.cancel();
    for (const socket of peer.sockets) socket.destroy();
    peer.associations.close().catch((error: unknown) => {
      log.error("keys of a node that is gone are still in force", { peer: peer.node.name, reason: messageOf(error) });
    });
  }

  #want(peer: Peer): void {
    const { ageMs } = peer.associations;
    const sinceFailureMs = this.#options.clock.monotonic() - peer.failedMs;
    if (peer.sockets.size > 0 || sinceFailureMs < WANTED_PAUSE_MS) return;
    if (ageMs !== undefined && ageMs < WANTED_PAUSE_MS) return; // what was asked for is here
    this.#dials.add(peer);
  }

  async #dial(peer: Peer): Promise<void> {
    const { address, ownId, clock } = this.#options;
    const { node } = peer;
    peer.timer?.cancel();
    if (peer.sockets.size > 0) {
      peer.timer = clock.after(EXCHANGE_MS, () => this.#dials.add(peer)); // unless what the peer has dialled succeeds
      return;
    }
    const socket = this.#dialer.dial({ host: node.address, port: node.keyPort, localAddress: address }, node.id);
    const messages = new PeerMessages(socket);
    watchExchange(socket, clock);
    const connected = untilSecure(socket, clock).catch((cause: unknown) => {
      throw whyNoAnswer(cause, node, clock.now());
    });
    await this.#exchange(peer, { socket, messages, connected, dialler: ownId });
  }

  async #answer(socket: TLSSocket): Promise<void> {
    const { clusterId, clock, log } = this.#options;
    const messages = new PeerMessages(socket);
    watchExchange(socket, clock);
    this.#unknown.add(socket);
    socket.once("close", () => this.#unknown.delete(socket));
    try {
      const { id, name } = diallerOf(socket, clusterId);
      const peer = this.#peers.get(id);
      if (peer === undefined) throw new Error(`it has no node '${name}' that can seal: that was removed, or is news`);
      await this.#exchange(peer, { socket, messages, connected: undefined, dialler: id });
    } catch (error) {
      log.debug("agrees on no keys", { address: socket.remoteAddress ?? "", reason: messageOf(error) });
      messages.refuse(messageOf(error));
    }
  }

  /** Does not throw: what goes wrong is the peer's reason. */
  async #exchange(
    peer: Peer,
    at: { socket: TLSSocket; messages: PeerMessages; connected: Promise<void> | undefined; dialler: string },
  ): Promise<void> {
    const { socket, messages, dialler } = at;
    const exchange = peer.associations.begin(dialler);
    peer.sockets.add(socket);
    try {
      await at.connected;
      await exchangeKeys(socket, messages, exchange.end);
      exchange.succeeded();
      peer.sockets.delete(socket);
      this.#succeeded(peer);
    } catch (error) {
      exchange.failed();
      socket.destroy();
      peer.sockets.delete(socket);
      this.#failed(peer, messageOf(error), dialler);
    }
  }

  #succeeded(peer: Peer): void {
    const { log, clock, random, ownId } = this.#options;
    if (this.#isGone(peer)) return;
    log.debug("keys are agreed on", { peer: peer.node.name });
    if (peer.reason !== null) log.info("keys are agreed on again", { peer: peer.node.name });
    peer.backoff.succeeded();
    peer.failedMs = Number.NEGATIVE_INFINITY;
    peer.reason = null;
    this.#dials.remove(peer);
    peer.timer?.cancel();
    const dueMs = (ownId < peer.node.id ? REKEY_MS : LATE_REKEY_MS) * (1 - SPREAD * random());
    peer.timer = clock.after(dueMs, () => this.#dials.add(peer));
  }

  #failed(peer: Peer, reason: string, dialler: string): void {
    const { log, clock, random, ownId } = this.#options;
    if (this.#isGone(peer)) return;
    if (dialler !== ownId && peer.associations.hasKeys) return; // the one that dialled tries again
    const level = peer.reasons.isNews(reason) ? "warn" : "debug";
    log[level]("no keys are agreed on with a peer", { peer: peer.node.name, reason });
    peer.reason = reason;
    peer.failedMs = clock.monotonic();
    peer.timer?.cancel();
    peer.timer = clock.after(peer.backoff.failed() * (1 - SPREAD * random()), () => this.#dials.add(peer));
  }

  #isGone(peer: Peer): boolean {
    return this.#isStopped || this.#peers.get(peer.node.id) !== peer;
  }
}

/** Rejects when nothing answers, or the wrong one does. */
function untilSecure(socket: TLSSocket, clock: Clock): Promise<void> {
  // A thread that had no processor for a time hears of what came meanwhile before it judges.
  const timer = clock.after(CONNECT_MS, () =>
    setImmediate(() => {
      if (socket.connecting)
        socket.destroy(Object.assign(new Error(`nothing answers in ${CONNECT_MS} ms`), { code: "ETIMEDOUT" }));
    }),
  );
  socket.once("connect", () => timer.cancel());
  return new Promise((resolve, reject) => {
    socket.once("secureConnect", resolve);
    socket.once("error", reject);
    socket.once("close", () => {
      timer.cancel();
      reject(new Error("the connection was closed"));
    });
  });
}

function isSame(one: KeyPeer, other: KeyPeer | undefined): boolean {
  return other !== undefined && one.address === other.address && one.keyPort === other.keyPort;
}
