// TCP resets that the agent sends in the place of an end that is gone, RFC 9293 section 3.5.2.
import { set16, set32 } from "../lib/bytes.ts";
import type { Ipv4 } from "../lib/ip.ts";
import { fold, type Sum } from "../packet/checksum.ts";
import { Drop } from "../packet/drop.ts";
import * as ip from "../packet/ipv4.ts";
import type { PacketMemory } from "../packet/memory.ts";
import { Packet, swapPorts } from "../packet/packet.ts";
import * as tcp from "../packet/tcp.ts";
import type { Egress } from "./egress.ts";
import { FlowState } from "./flow-entries.ts";
import type { FlowTable } from "./flow-table.ts";
import { OwnPackets } from "./own-packets.ts";
import { DEVICE } from "./rows.ts";
import type { Tables } from "./tables.ts";

const RESET_BYTES = ip.IPV4_BYTES + tcp.TCP_BYTES;

interface ResetsOptions {
  memory: PacketMemory;
  sum: Sum;
  tables: Tables;
  flows: FlowTable;
  egress: Egress;
}

export class Resets {
  /** Resets that were sent. */
  sent = 0;
  readonly #u8: Uint8Array;
  readonly #sum: Sum;
  readonly #tables: Tables;
  readonly #flows: FlowTable;
  readonly #egress: Egress;
  readonly #slots: OwnPackets;
  readonly #packet: Packet;

  constructor({ memory, sum, tables, flows, egress }: ResetsOptions) {
    this.#u8 = memory.u8;
    this.#sum = sum;
    this.#tables = tables;
    this.#flows = flows;
    this.#egress = egress;
    this.#slots = new OwnPackets(memory, RESET_BYTES, () => egress.flush());
    this.#packet = new Packet(memory, sum);
  }

  /**
   * Resets the ends of a TCP flow that is open: those on this node, and those behind a peer that runs no agent. The
   * agent of another node resets its own end.
   */
  flow(entry: number): void {
    const flows = this.#flows;
    const original = entry & ~1;
    const reply = original + 1;
    const state = flows.stateOf(original);
    if (state < FlowState.SynSent || state > FlowState.CloseWait) return;
    for (let side = original; side <= reply; side++) {
      // The end that sends in this direction gets what the other end would have sent next.
      const to = flows.fromOf(side);
      const end = flows.sourceOf(side);
      if (!this.#isOurs(end, to)) continue;
      // An end that has not had an answer yet takes a reset by its acknowledgment alone.
      const sequence = flows.nextSequenceOf(side ^ 1);
      const acknowledgment = flows.nextSequenceOf(side);
      const at = this.#begin(flows.destinationOf(side), end, swapPorts(flows.portsOf(side)));
      this.#finish(at, sequence, acknowledgment, tcp.Flag.Rst | tcp.Flag.Ack, to, flows.vniOf(side));
    }
  }

  /** Answers a segment for a port that no task serves, RFC 9293 section 3.10.7.1. It came from `from`, on `vni`. */
  segment(packet: Packet, from: Ipv4, vni: number): void {
    const { u8, transport, tcpFlags } = packet;
    if ((tcpFlags & tcp.Flag.Rst) !== 0) return;
    const at = this.#begin(packet.destination, packet.source, swapPorts(packet.ports));
    if ((tcpFlags & tcp.Flag.Ack) !== 0) {
      this.#finish(at, tcp.acknowledgment(u8, transport), 0, tcp.Flag.Rst, from, vni);
      return;
    }
    const next = (tcp.sequence(u8, transport) + packet.payloadBytes + tcp.occupied(tcpFlags)) | 0;
    this.#finish(at, 0, next, tcp.Flag.Rst | tcp.Flag.Ack, from, vni);
  }

  /** Whether the end is still there, and this node is the one to reset it. */
  #isOurs(address: Ipv4, vtep: Ipv4): boolean {
    const tables = this.#tables;
    if (vtep !== DEVICE && tables.peers.get(vtep)?.agent !== false) return false;
    const endpoint = tables.endpoints.get(address);
    if (endpoint !== undefined) return endpoint.vtep === vtep;
    if (vtep !== DEVICE) return false;
    return !tables.inPool(address) || address === tables.node.ingress || tables.networksByGateway.has(address);
  }

  #begin(source: Ipv4, destination: Ipv4, ports: number): number {
    const at = this.#slots.take();
    ip.writeIpv4(this.#u8, at, source, destination, ip.Protocol.Tcp, tcp.TCP_BYTES);
    set32(this.#u8, at + ip.IPV4_BYTES, ports);
    return at;
  }

  #finish(at: number, sequence: number, acknowledgment: number, flags: number, to: Ipv4, vni: number): void {
    const u8 = this.#u8;
    const packet = this.#packet;
    const transport = at + ip.IPV4_BYTES;
    set32(u8, transport + tcp.SEQUENCE_AT, sequence);
    set32(u8, transport + tcp.ACKNOWLEDGMENT_AT, acknowledgment);
    set16(u8, transport + tcp.DATA_OFFSET_AT, ((tcp.TCP_BYTES / 4) << 12) | flags);
    set32(u8, transport + tcp.WINDOW_AT, 0); // and the checksum
    set16(u8, transport + tcp.CHECKSUM_AT + 2, 0);
    packet.parse(at, RESET_BYTES);
    const pseudo = ip.pseudoHeaderSum(packet.source, packet.destination, ip.Protocol.Tcp, tcp.TCP_BYTES);
    set16(u8, transport + tcp.CHECKSUM_AT, ~this.#sum(transport, tcp.TCP_BYTES, fold(pseudo)));
    if (this.#egress.send(packet, to, vni, 0) === Drop.None) this.sent++;
  }
}
