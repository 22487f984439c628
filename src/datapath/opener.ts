// The way in of sealed packets: each datagram of a train is opened in place, by the association that its SPI names. What is opened comes
// from the peer that the association is with, whatever address is on the outside.
import type { Ipv4 } from "../lib/ip.ts";
import { Drop } from "../packet/drop.ts";
import { ESP_BYTES, ICV_BYTES, isEsp } from "../packet/esp.ts";
import type { PacketMemory } from "../packet/memory.ts";
import * as udp from "../packet/udp.ts";
import { Refusal } from "./association.ts";
import type { Associations } from "./associations.ts";
import { PACKET_BYTES } from "./batch.ts";

/** As many datagrams as a train may have. */
const MOST_DATAGRAMS = Math.ceil(PACKET_BYTES / (ESP_BYTES + ICV_BYTES));

export class Opener {
  /** Bytes of the VXLAN datagrams that open() found, each LEAD_BYTES behind its ESP header; below 0: the Drop, negated. */
  readonly lengths = new Int32Array(MOST_DATAGRAMS);
  /** The VTEPs that they come from. */
  readonly vteps = new Int32Array(MOST_DATAGRAMS);
  readonly #view: DataView;
  readonly #associations: Associations;

  constructor({ view }: PacketMemory, associations: Associations) {
    this.#view = view;
    this.#associations = associations;
  }

  /**
   * Opens the `bytes` at `at`: datagrams of `step` bytes, the last one maybe shorter. Returns how many they are. Hot path: must not
   * allocate.
   */
  open(at: number, bytes: number, step: number): number {
    let count = 0;
    for (let offset = 0; offset < bytes && count < MOST_DATAGRAMS; offset += step) {
      this.vteps[count] = 0;
      this.lengths[count] = this.#openOne(at + offset, Math.min(step, bytes - offset), count);
      count++;
    }
    return count;
  }

  /** Whether there are keys for what the peer sends. Then it sends its probes sealed. */
  hasKeys(vtep: Ipv4): boolean {
    return (this.#associations.peer(vtep)?.inbound ?? 0) > 0;
  }

  #openOne(at: number, bytes: number, index: number): number {
    const view = this.#view;
    if (!isEsp(view, at, bytes)) return -Drop.BadSeal;
    const opening = this.#associations.opening(view.getInt32(at));
    if (opening === undefined) return -Drop.UnknownSpi;
    const { peer, association } = opening;
    const inner = association.open(at, bytes);
    if (inner < 0) {
      if (inner === Refusal.Replayed) {
        peer.replayed++;
        return -Drop.Replayed;
      }
      peer.badSeals++;
      return -Drop.BadSeal;
    }
    peer.opened++;
    this.vteps[index] = peer.vtep;
    const payload = inner - udp.UDP_BYTES;
    const isWhole = payload >= 0 && view.getUint16(at + ESP_BYTES + udp.LENGTH_AT) === inner;
    return isWhole ? payload : -Drop.BadTransportHeader;
  }
}
