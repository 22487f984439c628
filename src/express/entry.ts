// One direction of a flow as the lane has it: key and value of the map `flows`, encoded from plain fields.
import { type Ipv4, OUTSIDE } from "../lib/ip.ts";
import { fold, sum32 } from "../packet/checksum.ts";
import { EtherType, OVERLAY_PREFIX } from "../packet/ethernet.ts";
import { DONT_FRAGMENT, Protocol } from "../packet/ipv4.ts";
import { addressDelta, portDelta } from "../packet/packet.ts";
import { FLAG_VNI } from "../packet/vxlan.ts";
import { groundOf } from "./grounds.ts";
import { Flag, INBOUND, Key, VALUE_BYTES, Value } from "./layout.ts";

/** The first word of an IPv4 header without options, and the word of its TTL and protocol, as the agent's sockets have them. */
export const VERSION_WORD = 0x4500;
export const UDP_WORD = (64 << 8) | Protocol.Udp;

export interface LaneEntry {
  /** The VTEP that its packets come from; DEVICE, which is 0: a container of this node, or a client outside. */
  from: Ipv4;
  /** The VTEP that they go to; DEVICE: as above. One of the two is DEVICE. */
  to: Ipv4;
  /** `from` is DEVICE, and stands for a client outside that has come by a published port. Only one of `from` and `to` does. */
  fromClient: boolean;
  toClient: boolean;
  /** Where they come in: the index of the container's link on the host, or of the client's, or the VNI of the peer's frames. */
  origin: number;
  protocol: number;
  /** The packet as it comes in. `ports` are those of Packet.ports. */
  source: Ipv4;
  destination: Ipv4;
  ports: number;
  /** The packet as it goes out. */
  newSource: Ipv4;
  newDestination: Ipv4;
  newPorts: number;
  /** The VIP that the flow was balanced from; 0: none. */
  vip: Ipv4;
  /** The index of the link on which it goes out: the underlay's, the container's on the host, or the client's. */
  link: number;
  /** The largest IP packet that passes. */
  mtu: number;
  /** This node's VTEP; with a peer at one end. */
  vtep: Ipv4;
  // To a peer only:
  vni: number;
  /** The outer UDP ports. */
  sourcePort: number;
  port: number;
  /** Whether frames get an outer UDP checksum. A receiver with UDP GRO joins frames that have one, and its lane then passes them on. */
  hasOuterChecksum: boolean;
  /** To a client only: its link has a card that would take for a tunnel's what has come through one. */
  heedsTunnelMark: boolean;
  // To a container only:
  /** The address whose MAC its frames come from: the containers' next hop. */
  nextHop: Ipv4;
  // TCP only: as Value.Sequence and Value.Acknowledgment.
  sequence: number;
  acknowledgment: number;
  /** What the lane has counted of this direction before, and counts on from: below 2^32 packets, and bytes of IP packets. */
  packets: number;
  bytes: number;
  /**
   * sumOfGrounds() for the flow, from the thread that decided it: taken after its tables changed last, and before it looked the flow up in
   * them. The entry is true as long as the sum is.
   */
  groundSum: number;
}

const WORD = 2 ** 32;

/** Writes the entry's key to `at`. Hot path: must not allocate. */
export function writeKey(view: DataView, at: number, entry: LaneEntry): void {
  const isInbound = entry.from !== 0;
  if (isInbound) view.setInt32(at + Key.Origin, entry.origin << 8);
  else view.setInt32(at + Key.Origin, entry.origin, true);
  view.setInt32(at + Key.Source, entry.source);
  view.setInt32(at + Key.Destination, entry.destination);
  view.setInt32(at + Key.Ports, entry.ports);
  view.setInt32(at + Key.Protocol, entry.protocol | (isInbound ? INBOUND : 0), true);
}

/** What the flow table finds an entry by. */
export interface FlowKey {
  zone: number;
  protocol: number;
  source: Ipv4;
  destination: Ipv4;
  ports: number;
}

/** Reads the key at `at` into `key`. Hot path: must not allocate. */
export function readKey(view: DataView, at: number, key: FlowKey): void {
  const word = view.getUint32(at + Key.Protocol, true);
  key.protocol = word & 0xff;
  key.zone = (word & INBOUND) === 0 ? 0 : view.getUint32(at + Key.Origin) >>> 8;
  key.source = view.getInt32(at + Key.Source);
  key.destination = view.getInt32(at + Key.Destination);
  key.ports = view.getInt32(at + Key.Ports);
}

/** Writes the entry's value to `at`. Hot path: must not allocate. */
export function writeValue(view: DataView, at: number, entry: LaneEntry): void {
  for (let i = 0; i < VALUE_BYTES; i += 4) view.setInt32(at + i, 0);
  view.setUint32(at + Value.Packets, entry.packets, true);
  view.setUint32(at + Value.Bytes, entry.bytes % WORD, true);
  view.setUint32(at + Value.Bytes + 4, Math.floor(entry.bytes / WORD), true);
  view.setInt32(at + Value.Sequence, entry.sequence, true);
  view.setInt32(at + Value.Acknowledgment, entry.acknowledgment, true);
  writeRewriting(view, at, entry);
  view.setUint16(at + Value.Mtu, entry.mtu, true);
  view.setInt32(at + Value.Link, entry.link, true);
  view.setInt32(at + Value.Sender, entry.to !== 0 ? entry.newSource : entry.nextHop);
  if (entry.to !== 0) writeWayToPeer(view, at, entry);
  else if (entry.from !== 0) writeWayFromPeer(view, at, entry);
  writeGrounds(view, at + Value.Grounds, entry);
  view.setInt32(at + Value.GroundSum, entry.groundSum, true);
}

function writeRewriting(view: DataView, at: number, entry: LaneEntry): void {
  const { source, destination, ports, newSource, newDestination, newPorts } = entry;
  const rewritesPorts = ports !== newPorts;
  const rewrites = rewritesPorts || source !== newSource || destination !== newDestination;
  const flags =
    (rewrites ? Flag.Rewrites : 0) |
    (rewritesPorts ? Flag.RewritesPorts : 0) |
    (entry.to !== 0 ? Flag.ToPeer : 0) |
    (entry.toClient ? Flag.ToClient : 0) |
    (entry.heedsTunnelMark ? Flag.NoTunnelMark : 0) |
    (entry.hasOuterChecksum ? Flag.OuterChecksum : 0);
  view.setUint16(at + Value.Flags, flags, true);
  view.setInt32(at + Value.Source, newSource);
  view.setInt32(at + Value.Destination, newDestination);
  view.setInt32(at + Value.Ports, newPorts);
  if (!rewrites) return;
  view.setUint16(at + Value.AddressDelta, addressDelta(source, destination, newSource, newDestination));
  if (rewritesPorts) view.setUint16(at + Value.PortDelta, portDelta(entry.protocol, ports, newPorts));
}

/**
 * The checksums of each frame follow from these sums and the packet's length. An inner header with its right checksum adds
 * nothing to the outer UDP checksum, and the rest of the inner packet, its checksum right, adds the complement of its pseudo-header.
 */
function writeWayToPeer(view: DataView, at: number, entry: LaneEntry): void {
  const outerPorts = (entry.sourcePort << 16) | entry.port;
  const vniWord = entry.vni << 8;
  view.setInt32(at + Value.OuterSource, entry.vtep);
  view.setInt32(at + Value.OuterDestination, entry.to);
  view.setInt32(at + Value.OuterPorts, outerPorts);
  view.setInt32(at + Value.VniWord, vniWord);
  const outerAddresses = sum32(entry.vtep) + sum32(entry.to);
  view.setUint16(at + Value.HeaderSum, fold(VERSION_WORD + DONT_FRAGMENT + UDP_WORD + outerAddresses));
  const innerPseudo = fold(sum32(entry.newSource) + sum32(entry.newDestination) + entry.protocol);
  const headers = sum32(outerPorts) + (FLAG_VNI << 8) + sum32(vniWord) + EtherType.Ipv4;
  const macs = 2 * OVERLAY_PREFIX + sum32(entry.newDestination) + sum32(entry.newSource);
  view.setUint16(at + Value.UdpSum, fold(outerAddresses + Protocol.Udp + headers + macs + (~innerPseudo & 0xffff)));
}

function writeWayFromPeer(view: DataView, at: number, entry: LaneEntry): void {
  view.setInt32(at + Value.OuterSource, entry.from);
  view.setInt32(at + Value.OuterDestination, entry.vtep);
  view.setUint16(at + Value.UdpSum, fold(sum32(entry.from) + sum32(entry.vtep) + Protocol.Udp));
}

/** The server's address is what the client's packets become, and the client's what the server's become. */
function writeGrounds(view: DataView, at: number, entry: LaneEntry): void {
  view.setUint16(at, groundOf(entry.source), true);
  view.setUint16(at + 2, groundOf(entry.newDestination), true);
  view.setUint16(at + 4, groundOf(entry.vip), true);
  view.setUint16(at + 6, groundOf(entry.fromClient ? OUTSIDE : entry.from), true);
  view.setUint16(at + 8, groundOf(entry.toClient ? OUTSIDE : entry.to), true);
}
