// The associations of this node with one peer: those that it opens by, a set from each exchange, and those that it seals by.
// A set to open by stays until the peer has said that it seals by a newer one, and 30 s longer, for packets that are on the way.
import type { InboundKey, OutboundKey } from "../datapath/associations.ts";
import type { Clock, Timer } from "../lib/clock.ts";
import type { Ipv4 } from "../lib/ip.ts";
import type { AgreedKey, ExchangeEnd, ExchangeOrder } from "./peer-exchange.ts";
import type { SpiPool } from "./spi-pool.ts";

const RETIRE_MS = 30_000;
/** Sets that the peer may or may not have taken. Exchanges that broke off leave them, and the next that succeeds ends them. */
const MOST_UNCERTAIN = 3;

/** Where keys are put in force. Calls come into force in their order. */
export interface SealedPath {
  readonly workers: number;
  readonly sealingSockets: number;
  putAssociations(inbound: readonly InboundKey[], outbound: readonly OutboundKey[]): Promise<void>;
  /** Inbound associations with these SPIs go, and all with these peers. */
  forgetAssociations(spis: readonly number[], vteps: readonly Ipv4[]): Promise<void>;
}

interface AssociationsOptions {
  vtep: Ipv4;
  ownId: string;
  peerId: string;
  path: SealedPath;
  spis: SpiPool;
  clock: Clock;
  /** Called when keys could not be taken away. */
  onFailure: (error: unknown) => void;
}

interface OpeningSet {
  readonly order: ExchangeOrder;
  readonly keys: readonly AgreedKey[];
  isOffered: boolean;
  isTaken: boolean;
  retiring: Timer | undefined;
}

export class PeerAssociations {
  readonly #options: AssociationsOptions;
  readonly #sets: OpeningSet[] = []; // BOUNDED: by MOST_UNCERTAIN, the one in use, and those of the last 30 s
  #sealing: { order: ExchangeOrder; keys: readonly AgreedKey[]; sinceMs: number } | undefined;
  #lastNumber = 0;
  #replaced = 0;
  #isClosed = false;

  constructor(options: AssociationsOptions) {
    this.#options = options;
  }

  /** Whether this node can seal for the peer. */
  get hasKeys(): boolean {
    return this.#sealing !== undefined;
  }

  /** Monotonic milliseconds since the keys that this node seals by were agreed on. */
  get ageMs(): number | undefined {
    return this.#sealing && this.#options.clock.monotonic() - this.#sealing.sinceMs;
  }

  /** How many times other keys took the place of those before. */
  get rekeys(): number {
    return this.#replaced;
  }

  /** The keys that there are now, in memory only. */
  keys(): { opening: readonly AgreedKey[]; sealing: readonly AgreedKey[] } {
    return { opening: this.#sets.flatMap(({ keys }) => keys), sealing: this.#sealing?.keys ?? [] };
  }

  /** This node's end of one exchange, and what is to be called when that has ended. */
  begin(dialler: string): { end: ExchangeEnd; succeeded(): void; failed(): void } {
    const { ownId, peerId, path, spis } = this.#options;
    let order: ExchangeOrder | undefined;
    let set: OpeningSet | undefined;
    let taken: number[] = [];
    const end: ExchangeEnd = {
      ...{ ownId, peerId, dialler, sockets: path.sealingSockets },
      lastNumber: () => this.#lastNumber,
      begin: (place) => {
        this.#requireOpen();
        order = place;
        this.#lastNumber = Math.max(this.#lastNumber, place.number);
      },
      allocate: (sockets) => {
        this.#requireOpen();
        taken = spis.take(sockets, path.workers);
        return taken;
      },
      open: async (keys) => {
        this.#requireOpen();
        set = { order: order!, keys, isOffered: false, isTaken: false, retiring: undefined };
        this.#sets.push(set);
        const { vtep } = this.#options;
        await path.putAssociations(
          keys.map((key) => ({ ...key, vtep })),
          [],
        );
        this.#requireOpen();
      },
      offered: () => {
        set!.isOffered = true;
      },
      seal: (keys) => this.#seal(order!, keys),
    };
    return {
      end,
      succeeded: () => this.#succeeded(set!),
      failed: () => {
        if (set === undefined) spis.give(taken);
        else if (!set.isOffered) this.#forget(set);
        else this.#forgetUncertain();
      },
    };
  }

  /** The peer is no node of this cluster any more, or cannot seal: all that was agreed on with it goes. */
  async close(): Promise<void> {
    if (this.#isClosed) return;
    this.#isClosed = true;
    const { path, spis, vtep } = this.#options;
    for (const set of this.#sets.splice(0)) {
      set.retiring?.cancel();
      spis.give(set.keys.map(({ spi }) => spi));
      wipe(set.keys);
    }
    wipe(this.#sealing?.keys ?? []);
    this.#sealing = undefined;
    await path.forgetAssociations([], [vtep]);
  }

  /** No timer runs any more. What the workers have stays with them. */
  stop(): void {
    this.#isClosed = true;
    for (const { retiring } of this.#sets) retiring?.cancel();
  }

  async #seal(order: ExchangeOrder, keys: readonly AgreedKey[]): Promise<void> {
    this.#requireOpen();
    const { vtep, path, clock } = this.#options;
    if (this.#sealing !== undefined && isNewer(this.#sealing.order, order)) return wipe(keys);
    if (this.#sealing !== undefined) {
      wipe(this.#sealing.keys);
      this.#replaced++;
    }
    this.#sealing = { order, keys, sinceMs: clock.monotonic() };
    await path.putAssociations(
      [],
      keys.map((key, socket) => ({ ...key, vtep, socket })),
    );
    this.#requireOpen();
  }

  /** The peer seals by this set, or by a newer one. */
  #succeeded(set: OpeningSet): void {
    set.isTaken = true;
    for (const other of this.#sets) {
      if (other === set || other.retiring !== undefined || isNewer(other.order, set.order)) continue;
      other.retiring = this.#options.clock.after(RETIRE_MS, () => this.#forget(other));
    }
  }

  #forgetUncertain(): void {
    const uncertain = this.#sets.filter(({ isOffered, isTaken, retiring }) => isOffered && !isTaken && !retiring);
    for (const set of uncertain.slice(0, -MOST_UNCERTAIN)) this.#forget(set);
  }

  #forget(set: OpeningSet): void {
    const at = this.#sets.indexOf(set);
    if (at < 0) return;
    this.#sets.splice(at, 1);
    set.retiring?.cancel();
    const { path, spis, onFailure } = this.#options;
    const gone = set.keys.map(({ spi }) => spi);
    wipe(set.keys);
    path.forgetAssociations(gone, []).catch(onFailure);
    spis.give(gone);
  }

  #requireOpen(): void {
    if (this.#isClosed) throw new Error("it is no node of this cluster any more, or seals no more");
  }
}

/** Whether `one` counts more than `other`: see peer-exchange.ts. */
function isNewer(one: ExchangeOrder, other: ExchangeOrder): boolean {
  return one.number === other.number ? one.dialler < other.dialler : one.number > other.number;
}

function wipe(keys: readonly AgreedKey[]): void {
  for (const { key } of keys) key.fill(0);
}
