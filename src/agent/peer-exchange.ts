// How two agents agree on keys, once, over a TLS 1.3 connection between them. Both ends do the same:
//
//   sockets ->  how many sockets I send from, and the number of my last exchange with you
//   offer   ->  an SPI for each of your sockets; I open what comes under it from now on
//   taken   ->  I send by your offer from now on
//
// The keys are derived from the connection and are never sent. An end opens by new keys before it offers them, so no packet is lost; and only
// a `taken` tells it that the peer needs its older keys no longer. Two exchanges at once, as when both nodes dial, are in an order that
// both know: the number of an exchange is one more than the higher of both ends' last ones, and of two with one number the one that the
// lower id dialled counts.
import type { TLSSocket } from "node:tls";
import type { Clock } from "../lib/clock.ts";
import { associationKey, peerSecret } from "../trust/peer-secret.ts";
import type { PeerMessages } from "./peer-messages.ts";

/** How long an exchange may take, its handshake among it. */
export const EXCHANGE_MS = 20_000;

/** An association as this node agreed on it. */
export interface AgreedKey {
  spi: number;
  key: Uint8Array;
}

/** The place of an exchange among those of two nodes. */
export interface ExchangeOrder {
  number: number;
  /** The id of the node that dialled. */
  dialler: string;
}

/** One end of an exchange. What it calls may throw: then the exchange has failed. */
export interface ExchangeEnd {
  ownId: string;
  peerId: string;
  dialler: string;
  /** How many sockets this node sends from. */
  sockets: number;
  /** The number of the last exchange with the peer; 0: there was none. */
  lastNumber(): number;
  /** The exchange has this place. */
  begin(order: ExchangeOrder): void;
  /** SPIs that nothing on this node has, one for each socket of the peer. */
  allocate(sockets: number): number[];
  /** Resolves when the node opens by these keys. */
  open(keys: readonly AgreedKey[]): Promise<void>;
  /** Resolves when the node seals by these keys, one for each of its sockets, or by those of a newer exchange. */
  seal(keys: readonly AgreedKey[]): Promise<void>;
  /** The offer goes out now: from here on the peer may send by it. */
  offered(): void;
}

/** Ends the connection when the exchange takes too long. */
export function watchExchange(socket: TLSSocket, clock: Clock): void {
  const timer = clock.after(EXCHANGE_MS, () =>
    socket.destroy(new Error(`the peer did not agree on keys within ${EXCHANGE_MS / 1000} s`)),
  );
  socket.once("close", () => timer.cancel());
}

/** Resolves when both ends seal by the new keys. Rejects when that is not certain; what the peer was offered it may use. */
export async function exchangeKeys(socket: TLSSocket, messages: PeerMessages, end: ExchangeEnd): Promise<void> {
  const { ownId, peerId, dialler, sockets } = end;
  const secret = peerSecret(socket, [ownId, peerId]);
  try {
    const lastNumber = end.lastNumber();
    messages.say({ type: "sockets", sockets, exchanges: lastNumber });
    const theirs = await messages.hear("sockets");
    end.begin({ number: Math.max(lastNumber, theirs.exchanges) + 1, dialler });
    const spis = end.allocate(theirs.sockets);
    await end.open(spis.map((spi) => ({ spi, key: associationKey(secret, peerId, spi) })));
    messages.requireOpen(); // a blocked worker may have taken longer than the peer waits
    end.offered();
    messages.say({ type: "offer", spis });
    const offer = await messages.hear("offer");
    if (offer.spis.length !== sockets) throw new Error(`the peer offered ${offer.spis.length} of ${sockets} keys`);
    if (new Set(offer.spis).size !== sockets) throw new Error("the peer offered one key twice");
    await end.seal(offer.spis.map((spi) => ({ spi, key: associationKey(secret, ownId, spi) })));
    messages.say({ type: "taken" });
    await messages.hear("taken");
  } finally {
    secret.fill(0);
    socket.end();
  }
}
