// The associations of one worker with all peers: those that its sockets seal with, by peer and socket, and those that it opens with, by
// SPI (association.ts). The agent puts here the keys that it agrees on with peers, and takes them away.
import type { Ipv4 } from "../lib/ip.ts";
import type { PacketMemory } from "../packet/memory.ts";
import { InboundAssociation, OutboundAssociation } from "./association.ts";
import { type AeadKeys, SOURCE_PORTS } from "./ports.ts";

/** The key of packets from the peer at `vtep` that say `spi`, which this node has chosen. */
export interface InboundKey {
  spi: number;
  vtep: Ipv4;
  key: Uint8Array;
}

/** The key of what one socket of this node sends to a peer, which has chosen the SPI. */
export interface OutboundKey {
  spi: number;
  vtep: Ipv4;
  /** The worker's index times SOURCE_PORTS, and the index of the socket in it. */
  socket: number;
  key: Uint8Array;
}

/** What was sealed and opened with one peer. */
export interface SealedTraffic {
  vtep: Ipv4;
  sealed: number;
  opened: number;
  /** Packets of its associations that were not genuine, and those that came again or too late. */
  badSeals: number;
  replayed: number;
  /** Associations that there are now. */
  outbound: number;
  inbound: number;
}

/** An inbound association, and whose it is. */
export interface Opening {
  readonly association: InboundAssociation;
  readonly peer: SealedPeer;
}

export class SealedPeer {
  readonly vtep: Ipv4;
  /** By the socket's index in this worker. */
  readonly outbound: (OutboundAssociation | undefined)[] = new Array(SOURCE_PORTS).fill(undefined);
  /** Inbound associations that there are. */
  inbound = 0;
  sealed = 0;
  opened = 0;
  badSeals = 0;
  replayed = 0;

  constructor(vtep: Ipv4) {
    this.vtep = vtep;
  }
}

export class Associations {
  readonly #memory: PacketMemory;
  readonly #keys: AeadKeys | undefined;
  /** BOUNDED: by the peers; keyed by VTEP. */
  readonly #peers = new Map<Ipv4, SealedPeer>();
  /** BOUNDED: by the peers' sockets, twice while keys change; keyed by the SPI as a signed number. */
  readonly #openings = new Map<number, Opening>();
  // What was asked for last: packets of one peer come together.
  #lastSpi = 0;
  #lastOpening: Opening | undefined;
  #lastVtep: Ipv4 = 0;
  #lastPeer: SealedPeer | undefined;

  /** `keys` is undefined where this node cannot seal. */
  constructor(memory: PacketMemory, keys: AeadKeys | undefined) {
    this.#memory = memory;
    this.#keys = keys;
  }

  putInbound({ spi, vtep, key }: InboundKey): void {
    this.forgetInbound(spi);
    const peer = this.#peerAt(vtep);
    const association = new InboundAssociation(this.#memory, spi, this.#need().opening(key));
    this.#openings.set(spi | 0, { association, peer });
    peer.inbound++;
    this.#forgetLast();
  }

  putOutbound({ spi, vtep, socket, key }: OutboundKey): void {
    const peer = this.#peerAt(vtep);
    const index = socket % SOURCE_PORTS;
    const association = new OutboundAssociation(this.#memory, spi, this.#need().sealing(key));
    peer.outbound[index]?.close();
    peer.outbound[index] = association;
    this.#forgetLast();
  }

  forgetInbound(spi: number): void {
    const opening = this.#openings.get(spi | 0);
    if (opening === undefined) return;
    this.#openings.delete(spi | 0);
    opening.association.close();
    opening.peer.inbound--;
    this.#forgetLast();
  }

  /** All keys with the peer go, and what was counted. It looks at every inbound association. */
  forgetPeer(vtep: Ipv4): void {
    const peer = this.#peers.get(vtep);
    if (peer === undefined) return;
    for (const association of peer.outbound) association?.close();
    for (const [spi, opening] of this.#openings) {
      if (opening.peer !== peer) continue;
      opening.association.close();
      this.#openings.delete(spi);
    }
    this.#peers.delete(vtep);
    this.#forgetLast();
  }

  /** The association with this SPI, which is a signed number here. Hot path: must not allocate. */
  opening(spi: number): Opening | undefined {
    if (spi !== this.#lastSpi) {
      this.#lastOpening = this.#openings.get(spi);
      this.#lastSpi = spi;
    }
    return this.#lastOpening;
  }

  /** The peer at this VTEP, if there are or were keys with it. Hot path: must not allocate. */
  peer(vtep: Ipv4): SealedPeer | undefined {
    if (vtep !== this.#lastVtep) {
      this.#lastPeer = this.#peers.get(vtep);
      this.#lastVtep = vtep;
    }
    return this.#lastPeer;
  }

  traffic(): SealedTraffic[] {
    return [...this.#peers.values()].map(({ vtep, sealed, opened, badSeals, replayed, outbound, inbound }) => ({
      ...{ vtep, sealed, opened, badSeals, replayed, inbound },
      outbound: outbound.filter((association) => association !== undefined).length,
    }));
  }

  close(): void {
    for (const vtep of [...this.#peers.keys()]) this.forgetPeer(vtep);
  }

  #peerAt(vtep: Ipv4): SealedPeer {
    let peer = this.#peers.get(vtep);
    if (peer === undefined) {
      peer = new SealedPeer(vtep);
      this.#peers.set(vtep, peer);
    }
    return peer;
  }

  #need(): AeadKeys {
    if (this.#keys === undefined) throw new Error("this node has nothing to seal with, and got keys all the same");
    return this.#keys;
  }

  #forgetLast(): void {
    this.#lastSpi = this.#lastVtep = 0;
    this.#lastOpening = this.#lastPeer = undefined;
  }
}
