// ICMP errors about packets of a tracked flow, rewritten back: they quote the packet with the addresses and ports that its sender gave
// it (RFC 5508 section 4). An error that belongs to no flow is an ordinary packet if an endpoint sends it to another of its network
// about a packet between the two; else it is dropped.
import { get16, set16, set32 } from "../lib/bytes.ts";
import type { Ipv4 } from "../lib/ip.ts";
import { fold, type Sum, updateChecksum } from "../packet/checksum.ts";
import { Drop } from "../packet/drop.ts";
import * as icmp from "../packet/icmp.ts";
import * as ip from "../packet/ipv4.ts";
import { addressDelta, type Packet, portDelta, swapPorts } from "../packet/packet.ts";
import * as tcp from "../packet/tcp.ts";
import * as udp from "../packet/udp.ts";
import type { Decision } from "./decision.ts";
import type { FlowCheck } from "./flow-check.ts";
import type { FlowTable } from "./flow-table.ts";
import { DEVICE } from "./rows.ts";
import { bareVni, wayMismatch } from "./sealed-way.ts";
import type { Tables } from "./tables.ts";

/** RFC 792: bytes of the quoted packet's payload that are there at least. */
const QUOTED_BYTES = 8;

interface IcmpRelateOptions {
  sum: Sum;
  tables: Tables;
  flows: FlowTable;
  decision: Decision;
  check: FlowCheck;
}

export class IcmpRelate {
  // Where the last error goes that relate() let pass.
  to: Ipv4 = DEVICE;
  vni = 0;
  hash = 0;
  readonly #sum: Sum;
  readonly #tables: Tables;
  readonly #flows: FlowTable;
  readonly #decision: Decision;
  readonly #check: FlowCheck;
  // The quoted packet.
  #at = 0;
  #transport = 0;
  #bytes = 0; // of its payload, as far as it is quoted
  #protocol = 0;
  #source: Ipv4 = 0;
  #destination: Ipv4 = 0;
  #ports = 0;

  constructor({ sum, tables, flows, decision, check }: IcmpRelateOptions) {
    this.#sum = sum;
    this.#tables = tables;
    this.#flows = flows;
    this.#decision = decision;
    this.#check = check;
  }

  /** Rewrites an error that came from `from` in `zone`. `seconds` is the time on the flows' clock. */
  relate(packet: Packet, zone: number, from: Ipv4, seconds: number): Drop {
    if (packet.partialChecksum || !packet.transportChecksumIsRight()) return Drop.BadTransportChecksum;
    const type = packet.u8[packet.transport]!;
    if (type === icmp.Type.Redirect || type === icmp.Type.SourceQuench) return Drop.IcmpUnrelated; // RFC 6633
    if (!this.#readQuoted(packet)) return Drop.IcmpUnrelated;
    const flows = this.#flows;
    // The error travels as a reply to the packet that it quotes.
    const entry = flows.find(zone, this.#protocol, this.#destination, this.#source, swapPorts(this.#ports));
    if (entry < 0) return this.#betweenEndpoints(packet, zone, from, seconds);
    const version = flows.foundVersion;
    const mismatch = from === DEVICE ? Drop.None : wayMismatch(zone, flows.vniOf(entry));
    if (mismatch !== Drop.None) return mismatch;
    if (this.#check.isIdle(entry, version, seconds)) return Drop.IcmpUnrelated;
    const other = entry ^ 1;
    const isFromEnd = packet.source === flows.sourceOf(entry);
    if (flows.fromOf(entry) !== from || !(isFromEnd || this.#maySend(packet.source, bareVni(zone), from))) {
      return Drop.SpoofedSource;
    }
    const sender = flows.sourceOf(other);
    const destination = flows.destinationOf(other);
    const ports = flows.portsOf(other);
    this.to = flows.toOf(entry);
    this.vni = flows.vniOf(entry);
    this.hash = flows.hashOf(entry);
    if (!flows.isCurrent(entry, version)) return Drop.IcmpUnrelated;
    this.#rewriteQuoted(packet.u8, sender, destination, ports);
    const isHidden = isFromEnd || this.#isOutside(sender, destination, packet.source);
    this.#rewriteOuter(packet, isHidden ? destination : packet.source, sender);
    return Drop.None;
  }

  /** Whether a client outside has sent to an address of this node: it has no way to one of the overlay, from which the error came. */
  #isOutside(client: Ipv4, destination: Ipv4, source: Ipv4): boolean {
    const tables = this.#tables;
    return tables.hostAddresses.has(destination) && tables.inPool(source) && !tables.inPool(client);
  }

  /** Whether the quoted packet can be matched with a flow, and is from the error's receiver. */
  #readQuoted(packet: Packet): boolean {
    const { u8 } = packet;
    const at = packet.transport + icmp.ICMP_BYTES;
    const end = packet.at + packet.length;
    if (end - at < ip.IPV4_BYTES || u8[at]! >>> 4 !== 4) return false;
    const headerBytes = ip.headerLength(u8, at);
    const transport = at + headerBytes;
    if (headerBytes < ip.IPV4_BYTES || transport + QUOTED_BYTES > end) return false;
    if ((get16(u8, at + ip.FRAGMENT_AT) & ip.OFFSET_MASK) !== 0) return false;
    this.#at = at;
    this.#transport = transport;
    this.#bytes = end - transport;
    this.#protocol = u8[at + ip.PROTOCOL_AT]!;
    this.#source = ip.source(u8, at);
    this.#destination = ip.destination(u8, at);
    this.#ports = 0;
    if (this.#protocol === ip.Protocol.Tcp || this.#protocol === ip.Protocol.Udp) {
      this.#ports = (get16(u8, transport) << 16) | get16(u8, transport + 2);
    } else if (this.#protocol === ip.Protocol.Icmp) {
      if (icmp.isError(u8[transport]!)) return false;
      const identifier = get16(u8, transport + icmp.IDENTIFIER_AT);
      this.#ports = (identifier << 16) | identifier;
    }
    return this.#source === packet.destination;
  }

  /** Whether an error may come from this address: a router on the way, the gateway, or the node there. */
  #maySend(source: Ipv4, zone: number, from: Ipv4): boolean {
    const { endpoints, networks, networksByGateway, node, peersByIngress } = this.#tables;
    if (endpoints.has(source)) return false;
    if (!this.#tables.inPool(source)) return from === DEVICE || zone === node.ingressVni;
    if (from === DEVICE) return source === node.ingress || networksByGateway.has(source);
    return peersByIngress.get(source)?.vtep === from || networks.get(zone)?.gateway === source;
  }

  #betweenEndpoints(packet: Packet, zone: number, from: Ipv4, seconds: number): Drop {
    const { endpoints } = this.#tables;
    const source = endpoints.get(packet.source);
    const destination = endpoints.get(packet.destination);
    if (source === undefined || destination === undefined || source.vni !== destination.vni) return Drop.IcmpUnrelated;
    if (this.#destination !== packet.source) return Drop.IcmpUnrelated;
    const decision = this.#decision;
    const refused = from === DEVICE ? decision.outbound(packet, seconds) : decision.inbound(packet, from, zone);
    this.to = decision.to;
    this.vni = decision.vni;
    this.hash = this.#flows.hash(zone, packet.protocol, packet.source, packet.destination, 0);
    return refused;
  }

  #rewriteQuoted(u8: Uint8Array, source: Ipv4, destination: Ipv4, ports: number): void {
    const at = this.#at;
    const transport = this.#transport;
    const addresses = addressDelta(this.#source, this.#destination, source, destination);
    set32(u8, at + ip.SOURCE_AT, source);
    set32(u8, at + ip.DESTINATION_AT, destination);
    update(u8, at + ip.CHECKSUM_AT, addresses);
    const changed = portDelta(this.#protocol, this.#ports, ports);
    if (this.#protocol === ip.Protocol.Icmp) {
      set16(u8, transport + icmp.IDENTIFIER_AT, ports >>> 16);
      update(u8, transport + icmp.CHECKSUM_AT, changed);
    } else if (this.#protocol === ip.Protocol.Udp) {
      set32(u8, transport, ports);
      const field = transport + udp.CHECKSUM_AT;
      if (get16(u8, field) === 0) return; // it had none
      update(u8, field, fold(addresses + changed));
      if (get16(u8, field) === 0) set16(u8, field, 0xffff);
    } else if (this.#protocol === ip.Protocol.Tcp) {
      set32(u8, transport, ports);
      if (this.#bytes >= tcp.CHECKSUM_AT + 2) update(u8, transport + tcp.CHECKSUM_AT, fold(addresses + changed));
    }
  }

  #rewriteOuter(packet: Packet, source: Ipv4, destination: Ipv4): void {
    const { u8, at, transport } = packet;
    update(u8, at + ip.CHECKSUM_AT, addressDelta(packet.source, packet.destination, source, destination));
    set32(u8, at + ip.SOURCE_AT, source);
    set32(u8, at + ip.DESTINATION_AT, destination);
    packet.source = source;
    packet.destination = destination;
    set16(u8, transport + icmp.CHECKSUM_AT, 0);
    set16(u8, transport + icmp.CHECKSUM_AT, ~this.#sum(transport, at + packet.length - transport, 0));
  }
}

function update(u8: Uint8Array, field: number, delta: number): void {
  set16(u8, field, updateChecksum(get16(u8, field), delta));
}
