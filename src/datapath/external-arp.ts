// ARP of VTEPs that run no agent: a kernel's vxlan device, a switch. Nodes know each other's addresses and never ask.
import { answerArp, arpSender, arpTarget, isArpRequest } from "../packet/arp.ts";
import { Drop } from "../packet/drop.ts";
import { VXLAN_BYTES } from "../packet/vxlan.ts";
import { ENCAPSULATION_BYTES } from "./encapsulate.ts";
import type { PeerRow } from "./rows.ts";
import type { Tables } from "./tables.ts";

export class ExternalArp {
  readonly #u8: Uint8Array;
  readonly #tables: Tables;

  constructor(u8: Uint8Array, tables: Tables) {
    this.#u8 = u8;
    this.#tables = tables;
  }

  /**
   * Turns the ARP request in the datagram at `at` into its answer. It answers for every address of the network (RFC 7348 section 4.1
   * leaves that open), because the VTEP may know no other node, but not for addresses behind that VTEP itself.
   */
  answer(at: number, length: number, network: number, peer: PeerRow): Drop {
    const u8 = this.#u8;
    const arp = at + ENCAPSULATION_BYTES;
    if (!isArpRequest(u8, arp, length - ENCAPSULATION_BYTES)) return Drop.ArpNotOurs;
    const { endpoints, networks, vips } = this.#tables;
    const sender = endpoints.get(arpSender(u8, arp));
    if (sender === undefined || sender.vni !== network || sender.vtep !== peer.vtep) return Drop.SpoofedSource;
    const target = arpTarget(u8, arp);
    const endpoint = endpoints.get(target);
    const isThere =
      (endpoint !== undefined && endpoint.vni === network && endpoint.vtep !== peer.vtep) ||
      vips.get(target)?.vni === network ||
      networks.get(network)?.gateway === target;
    if (!isThere) return Drop.ArpNotOurs;
    answerArp(u8, at + VXLAN_BYTES);
    return Drop.None;
  }
}
