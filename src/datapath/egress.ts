// The way out of the data path: packets queued for the device or, encapsulated, for the underlay, until flush().
import { get16 } from "../lib/bytes.ts";
import type { Ipv4 } from "../lib/ip.ts";
import type { Sum } from "../packet/checksum.ts";
import { Drop } from "../packet/drop.ts";
import * as ip from "../packet/ipv4.ts";
import type { PacketMemory } from "../packet/memory.ts";
import type { Packet } from "../packet/packet.ts";
import * as udp from "../packet/udp.ts";
import { Gso } from "../packet/virtio-net.ts";
import type { Associations } from "./associations.ts";
import { DeviceQueue, UnderlayQueue } from "./batch.ts";
import { Coalescer } from "./coalesce.ts";
import { Encapsulator } from "./encapsulate.ts";
import type { Device, ExpressLane, Underlay } from "./ports.ts";
import { DEVICE, type PeerRow } from "./rows.ts";
import { isSealed } from "./sealed-way.ts";
import { Sealer } from "./sealer.ts";
import type { Tables } from "./tables.ts";

const QUEUE_MESSAGES = 256;
const QUEUE_SLICES = 4096;

/** Bytes and packets carried to and from one peer. */
export interface Traffic {
  rxPackets: number;
  txPackets: number;
  rxBytes: number;
  txBytes: number;
}

interface EgressOptions {
  memory: PacketMemory;
  sum: Sum;
  tables: Tables;
  device: Device;
  underlay: Underlay;
  /** Keys of what goes out sealed, by sockets of its own; no underlay: this node cannot seal. */
  associations: Associations;
  sealedUnderlay: Underlay | undefined;
  /** Takes the entries of packets that are queued here before those are written out. */
  lane?: Pick<ExpressLane, "flush"> | undefined;
  /** Called with the number of messages that the device or the underlay refused. */
  refused: (drop: Drop, count: number) => void;
}

export class Egress {
  readonly #tables: Tables;
  readonly #device: Device;
  readonly #underlay: Underlay;
  readonly #lane: Pick<ExpressLane, "flush"> | undefined;
  readonly #refused: (drop: Drop, count: number) => void;
  readonly #toDevice = new DeviceQueue(QUEUE_MESSAGES, QUEUE_SLICES);
  readonly #toUnderlay = new UnderlayQueue(QUEUE_MESSAGES, QUEUE_SLICES);
  readonly #encapsulator: Encapsulator;
  readonly sealer: Sealer;
  readonly #coalescer: Coalescer;
  /** Packets that were queued, also those that the device or underlay refused afterwards. */
  packets = 0;
  readonly #trafficByVtep = new Map<Ipv4, Traffic>(); // BOUNDED: by the peers; keyed by VTEP
  // The counters that were asked for last: packets of one peer come together.
  #lastVtep: Ipv4 = DEVICE;
  #lastTraffic = noTraffic();

  constructor(options: EgressOptions) {
    const { memory, sum, tables, device, underlay, associations, sealedUnderlay, lane, refused } = options;
    this.#tables = tables;
    this.#device = device;
    this.#underlay = underlay;
    this.#lane = lane;
    this.#refused = refused;
    const { maxSegments } = underlay.offloads;
    const toUnderlay = this.#toUnderlay;
    this.#encapsulator = new Encapsulator(memory, sum, tables, toUnderlay, maxSegments, () => this.#flushUnderlay());
    this.sealer = new Sealer({
      ...{ memory, sum, associations, underlay: sealedUnderlay, refused },
      beforeFlush: () => lane?.flush(),
    });
    this.#coalescer = new Coalescer(memory.u8, this.#toDevice, device.offloads, () => this.#flushDevice());
  }

  /** Counts packets that came from a peer. Hot path: must not allocate. */
  countReceived(vtep: Ipv4, packets: number, bytes: number): void {
    const traffic = this.traffic(vtep);
    traffic.rxPackets += packets;
    traffic.rxBytes += bytes;
  }

  /** Counts packets that the express lane has carried. */
  countCarried(from: Ipv4, to: Ipv4, packets: number, bytes: number): void {
    if (this.#tables.peers.has(from)) this.countReceived(from, packets, bytes);
    if (!this.#tables.peers.has(to)) return;
    const traffic = this.traffic(to);
    traffic.txPackets += packets;
    traffic.txBytes += bytes;
  }

  traffic(vtep: Ipv4): Traffic {
    if (vtep === this.#lastVtep) return this.#lastTraffic;
    let traffic = this.#trafficByVtep.get(vtep);
    if (traffic === undefined) {
      traffic = noTraffic();
      this.#trafficByVtep.set(vtep, traffic);
    }
    this.#lastVtep = vtep;
    this.#lastTraffic = traffic;
    return traffic;
  }

  /** The peer's row is gone: so are its counters. */
  forgetTraffic(vtep: Ipv4): void {
    this.#trafficByVtep.delete(vtep);
    this.#lastVtep = DEVICE;
  }

  /**
   * Queues the packet for `to`: DEVICE, or the VTEP of a peer, encapsulated on `vni`, and sealed if that says so; `hash` is of its flow. `mtu` is not 0 when the
   * packet is larger than the largest that the peer gets whole: then it goes in pieces. Hot path: must not allocate.
   */
  send(packet: Packet, to: Ipv4, vni: number, hash: number, mtu = 0): Drop {
    if (to === DEVICE) {
      this.#queueForDevice(packet);
      return Drop.None;
    }
    const peer = this.#tables.peers.get(to);
    if (peer === undefined) return Drop.PeerGone;
    if (isSealed(vni)) {
      const drop = this.sealer.send(packet, peer, vni, hash, mtu);
      if (drop !== Drop.None) return drop;
    }
    this.packets++;
    const traffic = this.traffic(to);
    traffic.txPackets++;
    traffic.txBytes += packet.length;
    if (isSealed(vni)) return Drop.None;
    const encapsulator = this.#encapsulator;
    encapsulator.aim(peer, vni, hash);
    if (mtu === 0) {
      if (packet.gso === Gso.None) encapsulator.single(packet);
      else encapsulator.segments(packet, packet.gsoBytes);
    } else if (packet.gso === Gso.Tcp4) encapsulator.segments(packet, mtu - packet.headerBytes);
    else encapsulator.fragments(packet, mtu);
    return Drop.None;
  }

  /** Queues the packet for a local endpoint or the host. */
  #queueForDevice(packet: Packet): void {
    this.packets++;
    if (packet.partialChecksum) {
      // From a local sender: its super-packet and its unmade checksum pass on as they are.
      this.#coalescer.end();
      if (!this.#toDevice.fits(1)) this.#flushDevice();
      this.#toDevice.slice(packet.at, packet.length);
      const start = packet.transport - packet.at;
      this.#toDevice.finishPartial(packet.gso, packet.gsoBytes, packet.headerBytes, start, packet.checksumOffset());
      return;
    }
    const isTcp = packet.protocol === ip.Protocol.Tcp;
    const isUdp = packet.protocol === ip.Protocol.Udp;
    const hasChecksum = isTcp || (isUdp && get16(packet.u8, packet.transport + udp.CHECKSUM_AT) !== 0);
    if (hasChecksum && !packet.fragment && !packet.hasSurplus) {
      this.#coalescer.add(packet);
      return;
    }
    this.#coalescer.end();
    if (!this.#toDevice.fits(1)) this.#flushDevice();
    this.#toDevice.slice(packet.at, packet.length);
    this.#toDevice.finish();
  }

  /** Whether the packet at `at` was queued for the device last, and others may follow it into one super-packet. */
  isOpenAt(at: number): boolean {
    return this.#coalescer.last === at;
  }

  /** Whether the super-packet under way may take a packet of `bytes` payload. */
  canExtend(bytes: number): boolean {
    return this.#coalescer.canExtend(bytes);
  }

  /** Adds a packet to the super-packet under way. */
  extend(payloadAt: number, bytes: number, tcpFlags: number): void {
    this.packets++;
    this.#coalescer.extend(payloadAt, bytes, tcpFlags);
  }

  /** Whether probe() goes sealed to this peer. */
  seals(peer: PeerRow): boolean {
    return this.sealer.canSend(peer);
  }

  /** Queues a probe, with `padding` of the zeros at `zeros` behind it: sealed, if there is a key for the peer. */
  probe(offset: number, length: number, zeros: number, padding: number, peer: PeerRow): void {
    if (this.sealer.canSend(peer)) this.sealer.datagram(offset, length, padding, peer);
    else this.datagram(offset, length, peer, zeros, padding);
  }

  /** Queues a datagram of a clear network that is whole, with `padding` of the zeros at `zeros` behind it. */
  datagram(offset: number, length: number, peer: PeerRow, zeros = 0, padding = 0): void {
    if (!this.#toUnderlay.fits(2)) this.#flushUnderlay();
    this.#toUnderlay.slice(offset, length);
    if (padding > 0) this.#toUnderlay.slice(zeros, padding);
    this.#toUnderlay.finish(peer.vtep, peer.port, 0, 0, 0);
  }

  /** Writes out what is queued. Then the buffers of the packets may be filled again. */
  flush(): void {
    this.#lane?.flush();
    this.#coalescer.end();
    if (this.#toDevice.messages > 0) this.#flushDevice();
    if (this.#toUnderlay.messages > 0) this.#flushUnderlay();
    this.sealer.flush();
  }

  #flushDevice(): void {
    this.#lane?.flush();
    this.#refused(Drop.DeviceRefused, this.#device.write(this.#toDevice));
  }

  #flushUnderlay(): void {
    this.#lane?.flush();
    this.#refused(Drop.UnderlayRefused, this.#underlay.send(this.#toUnderlay));
    this.#encapsulator.flushed();
  }
}

function noTraffic(): Traffic {
  return { rxPackets: 0, txPackets: 0, rxBytes: 0, txBytes: 0 };
}
