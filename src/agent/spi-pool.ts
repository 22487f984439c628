// The SPIs that this node has given to peers. None is in use twice, and each says which worker opens what comes under it.
import { randomInt } from "node:crypto";
import { FIRST_SPI } from "../packet/esp.ts";

export class SpiPool {
  readonly #used = new Set<number>(); // BOUNDED: by the associations that peers have toward this node

  /** One for each of the peer's sockets: modulo `workers`, each SPI is what its socket's index is. */
  take(sockets: number, workers: number): number[] {
    return Array.from({ length: sockets }, (_, socket) => this.#takeOne(socket % workers, workers));
  }

  give(spis: Iterable<number>): void {
    for (const spi of spis) this.#used.delete(spi);
  }

  get size(): number {
    return this.#used.size;
  }

  #takeOne(worker: number, workers: number): number {
    const first = Math.ceil(FIRST_SPI / workers);
    const end = Math.floor(2 ** 32 / workers); // the last with every remainder is below 2^32
    for (;;) {
      const spi = randomInt(first, end) * workers + worker;
      if (this.#used.has(spi)) continue;
      this.#used.add(spi);
      return spi;
    }
  }
}
