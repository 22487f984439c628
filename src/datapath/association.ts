// Security associations, RFC 4303: what one sending socket of a node seals for a peer, and what a peer's socket has sealed for this one. An
// association belongs to one thread, so its counter and its window need no lock, and it keeps its key in memory only.
import {
  ESP_BYTES,
  encryptedBytes,
  ICV_BYTES,
  innerBytesOf,
  ivHighOf,
  ivLowOf,
  LAST_SEQUENCE,
  sequenceOf,
  spiOf,
  writeEsp,
  writeTrailer,
} from "../packet/esp.ts";
import type { PacketMemory } from "../packet/memory.ts";
import type { Aead } from "./ports.ts";
import { ReplayWindow } from "./replay-window.ts";

/** After so many packets another association is to take its place: long before the sequence ends. */
export const REKEY_AFTER_PACKETS = 2 ** 30;

/** What open() found wrong; each is below 0. */
export const Refusal = { Replayed: -1, BadSeal: -2 } as const;

export class OutboundAssociation {
  /** The receiver's name for it. */
  readonly spi: number;
  readonly #view: DataView;
  readonly #u8: Uint8Array;
  readonly #aead: Aead;
  /** The SPI as a signed number, which needs no place on the heap when it is handed on. */
  readonly #word: number;
  #sequence: number;

  /** `sequence` is the number of the last packet: 0 before the first. */
  constructor({ view, u8 }: PacketMemory, spi: number, aead: Aead, sequence = 0) {
    this.#view = view;
    this.#u8 = u8;
    this.spi = spi;
    this.#word = spi | 0;
    this.#aead = aead;
    this.#sequence = sequence;
  }

  get packets(): number {
    return this.#sequence;
  }

  /** Whether it is time for another. */
  get isOld(): boolean {
    return this.#sequence >= REKEY_AFTER_PACKETS;
  }

  /**
   * Seals an inner datagram of `bytes` in place; it begins ESP_BYTES behind `at`, and there is room for the rest behind it. Returns the length
   * from `at`; 0: all numbers are used, and nothing is sealed any more. Hot path: must not allocate.
   */
  seal(at: number, bytes: number): number {
    if (this.#sequence >= LAST_SEQUENCE) return 0;
    const sequence = ++this.#sequence;
    writeEsp(this.#view, at, this.#word, sequence);
    writeTrailer(this.#u8, at + ESP_BYTES, bytes);
    const encrypted = encryptedBytes(bytes);
    this.#aead.seal(this.#word, sequence, 0, sequence, at + ESP_BYTES, encrypted);
    return ESP_BYTES + encrypted + ICV_BYTES;
  }

  /** Forgets the key. */
  close(): void {
    this.#sequence = LAST_SEQUENCE;
    this.#aead.close();
  }
}

export class InboundAssociation {
  readonly spi: number;
  /** Packets that were genuine. */
  packets = 0;
  readonly #view: DataView;
  readonly #u8: Uint8Array;
  readonly #aead: Aead;
  readonly #window = new ReplayWindow();

  constructor({ view, u8 }: PacketMemory, spi: number, aead: Aead) {
    this.#view = view;
    this.#u8 = u8;
    this.spi = spi;
    this.#aead = aead;
  }

  /**
   * Opens a UDP payload in place for which isEsp() is true and whose SPI is this one. Returns how long the inner datagram is, which begins
   * ESP_BYTES behind `at`, or a Refusal; then what is there is not to be looked at. Hot path: must not allocate.
   */
  open(at: number, bytes: number): number {
    const view = this.#view;
    const sequence = sequenceOf(view, at);
    if (!this.#window.mayTake(sequence)) return Refusal.Replayed;
    const start = at + ESP_BYTES;
    const encrypted = bytes - ESP_BYTES - ICV_BYTES;
    const isGenuine = this.#aead.open(
      spiOf(view, at) | 0, // an unsigned one may need a place on the heap
      sequence,
      ivHighOf(view, at),
      ivLowOf(view, at),
      start,
      encrypted,
    );
    if (!isGenuine) return Refusal.BadSeal;
    this.#window.take(sequence);
    this.packets++;
    const inner = innerBytesOf(this.#u8, start, encrypted);
    return inner < 0 ? Refusal.BadSeal : inner;
  }

  /** Forgets the key. */
  close(): void {
    this.#aead.close();
  }
}
