// A client outside has two names for a published port: an address of the node, where the express lane leads its packets here as they
// come, and the service's mesh VIP, where the node's nftables have led them. It is one flow whichever way a packet has come: when the
// lane is turned on or off under it, and when only its fragments go by nftables.
import type { Ipv4 } from "../lib/ip.ts";
import { Protocol } from "../packet/ipv4.ts";
import { addressDelta, type Packet } from "../packet/packet.ts";
import { Flag } from "../packet/tcp.ts";
import type { FlowTable } from "./flow-table.ts";
import type { FragmentTable } from "./fragments.ts";
import type { Tables } from "./tables.ts";

export class EntranceNames {
  readonly #flows: FlowTable;
  readonly #tables: Tables;
  readonly #fragments: FragmentTable;

  constructor(flows: FlowTable, tables: Tables, fragments: FragmentTable) {
    this.#flows = flows;
    this.#tables = tables;
    this.#fragments = fragments;
  }

  /**
   * Looks for the flow of a packet from the device under the other name. True: flow and packet have the same name now. Hot path for new
   * flows: must not allocate.
   */
  find(packet: Packet, seconds: number): boolean {
    const { protocol, source, destination } = packet;
    const tables = this.#tables;
    if (protocol === Protocol.Tcp) {
      if ((packet.tcpFlags & (Flag.Syn | Flag.Ack)) === Flag.Syn) return false; // it begins a flow by its own name
    } else if (protocol !== Protocol.Udp) return false;
    if (tables.inPool(source) || tables.endpoints.has(source)) return false;
    if (tables.hostAddresses.has(destination)) return this.#nameFlow(packet);
    return tables.vips.get(destination)?.vni === tables.node.ingressVni && this.#namePacket(packet, seconds);
  }

  /** The lane leads the packet: the kernel does not translate the answers any more, so that the flow must. */
  #nameFlow(packet: Packet): boolean {
    const flows = this.#flows;
    const { protocol, source, destination, ports } = packet;
    const vip = this.#tables.published.find(protocol, ports & 0xffff, destination, true);
    if (vip === undefined) return false;
    flows.lock();
    const entry = flows.find(0, protocol, source, vip.ip, ports);
    const isFound = entry >= 0 && (entry & 1) === 0;
    if (isFound) {
      const [client, server] = [flows.destinationOf(entry + 1), flows.sourceOf(entry + 1)];
      const there = addressDelta(source, destination, client, server);
      flows.renameLocked(entry, destination, there, addressDelta(server, client, destination, source));
    }
    flows.unlock();
    return isFound;
  }

  /** nftables have led the packet. Answers go out as the lane's: the kernel takes them as they are. */
  #namePacket(packet: Packet, seconds: number): boolean {
    const { hostAddresses } = this.#tables.node;
    const { protocol, source, destination, ports } = packet;
    let own: Ipv4 = 0;
    this.#flows.lock();
    for (let i = 0; i < hostAddresses.length && own === 0; i++) {
      if (this.#flows.find(0, protocol, source, hostAddresses[i]!, ports) >= 0) own = hostAddresses[i]!;
    }
    this.#flows.unlock();
    if (own === 0) return false;
    if (packet.fragment && !packet.laterFragment) this.#fragments.remember(packet, 0, seconds); // as the later ones name it
    packet.rewrite(source, own, ports, addressDelta(source, destination, source, own), 0);
    return true;
  }
}
