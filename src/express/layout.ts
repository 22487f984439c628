// The express lane's maps, byte by byte: what the agent writes, what the programs read and count. entry.ts writes an entry;
// the programs know no other offsets than these. What is compared with a packet, or copied into one, is in the network's
// order; all else is in the machine's, which is little-endian.
import { SOCK_TUPLE_BYTES } from "../linux/bpf-abi.ts";
import type { MapShape } from "../linux/bpf-map.ts";

/** Counts up when a map changes its shape: entries of another layout than the agent's own are never adopted. */
export const LAYOUT = 2;

/** The key of `flows`: where a packet came in, and its addresses and ports. */
export const Key = {
  // The index of a container's link, or of the node's link to a client outside; of a peer's packets the VXLAN header's second word, network
  // order.
  Origin: 0,
  Source: 4, // network order
  Destination: 8, // network order
  Ports: 12, // source, destination: network order
  Protocol: 16, // u32; with INBOUND
} as const;
export const KEY_BYTES = 20;
/** The bit of Key.Protocol that marks the packets of peers. */
export const INBOUND = 0x100;

/** The value of `flows`. */
export const Value = {
  // The agent writes what these go on from, then the programs count. Two cores that count at once may lose a count.
  Seen: 0, // u64, nanoseconds of CLOCK_MONOTONIC, at the resolution of a tick
  Packets: 8, // u64
  Bytes: 16, // u64, of IP packets
  Sequence: 24, // u32, TCP: the number after the last that was sent in this direction; 0: none was seen
  Acknowledgment: 28, // u32, TCP: the last number that was acknowledged in this direction; 0: none was seen
  // The agent writes the rest, once.
  Flags: 32, // u16, of Flag
  Mtu: 34, // u16, the largest IP packet that passes
  Link: 36, // u32, the index of the link on which the packet goes out
  Source: 40, // what the packet becomes: network order
  Destination: 44,
  Ports: 48,
  AddressDelta: 52, // checksum differences for that, as packet/packet.ts has them: network order
  PortDelta: 54,
  // The outer header: toward a peer as it is written, from a peer as it must be. Network order.
  OuterSource: 56,
  OuterDestination: 60,
  OuterPorts: 64, // only toward a peer
  VniWord: 68, // only toward a peer
  // The address whose MAC (packet/ethernet.ts, OVERLAY_PREFIX) the frame comes from that goes out, or the inner one toward a peer. It goes
  // to the MAC of Destination.
  Sender: 72,
  HeaderSum: 76, // toward a peer: the sum of the outer IP header without its length and ECN
  // Toward a peer: what of the sum under the outer UDP checksum is the same for each packet. From a peer: the sum of the outer
  // pseudo-header without its length.
  UdpSum: 78,
  Grounds: 80, // five u16: indices into `grounds`
  GroundSum: 92, // u32, what these five and EVERYTHING add up to while the entry is true
} as const;
export const VALUE_BYTES = 96;
export const GROUNDS_OF_ENTRY = 5;

/** Bits of Value.Flags. */
export const Flag = {
  /** Addresses or ports change. */
  Rewrites: 1,
  /** Ports change. */
  RewritesPorts: 2,
  /** The packet goes to a peer, not to a container of this node. */
  ToPeer: 4,
  /** The packet goes to a client outside, by a link of the node. */
  ToClient: 8,
  /** Frames to a peer get an outer UDP checksum, if they are no super-packets. */
  OuterChecksum: 16,
  /** A super-packet that has come through a tunnel must not go to the client: its card would take it for one of a tunnel. */
  NoTunnelMark: 32,
} as const;

/** `grounds` has one value: a u32 for each 16-bit index. grounds.ts says what they count. */
export const GROUNDS = 65_536;

/** `control` has one value, which the agent and the programs share. */
export const Control = {
  LeaseUntil: 0, // u64, nanoseconds of CLOCK_MONOTONIC: the lane carries nothing after it
  IsOn: 8, // u32: 0 or 1
  Layout: 12, // u32: LAYOUT of the agent that made the maps
  /** u32, 0 or 1: TCP segments that come singly from peers go to containers by their links, which join them. */
  ByLink: 16,
  Device: 20, // u32: the index of the TUN, to which published ports are led; 0: they are not
  Counters: 64, // u64 each: for each of Origin, those of PassedOn
} as const;

/** The programs, as the control page counts for them. */
export const Origin = { Container: 0, Underlay: 1, Node: 2 } as const;
export type Origin = (typeof Origin)[keyof typeof Origin];

/** Why a program passed a packet on to the agent: each is a counter. */
export const PassedOn = {
  // The packet is none that the lane carries.
  NotIpv4: 0,
  Vlan: 1,
  /** The frame's destination is another machine's MAC, a multicast or the broadcast one. */
  OtherMac: 2,
  Options: 3,
  Fragment: 4,
  Ttl: 5,
  Protocol: 6,
  HeaderChecksum: 7,
  /** Lengths disagree, or a header is cut. Several datagrams that were coalesced look so too. */
  Length: 8,
  /** FIN, SYN, RST or URG, or no ACK. */
  TcpFlags: 9,
  NoUdpChecksum: 10,
  UdpSuperPacket: 11,
  /** Its VXLAN header has other bits than the I flag. */
  VxlanFlags: 12,
  /** The outer header has met congestion that the inner one is to take over (RFC 6040). */
  Congestion: 13,
  // Its flow may not go by the lane, or not now.
  NoEntry: 14,
  Off: 15,
  LeaseOver: 16,
  LostGround: 17,
  /** It came from another VTEP than the flow's peer, or to another of ours. */
  OtherVtep: 18,
  TooBig: 19,
  /** A network card was to make its outer UDP checksum, and there was none on the way. */
  UnfinishedOuter: 20,
  // The kernel refused to change the packet. It is dropped, for it is half changed.
  Failed: 21,
  /** A container had a card write a checksum in front of the TCP or UDP header. It is dropped, as what the agent makes of it would be. */
  StrayChecksum: 22,
  /** It is a super-packet that a tunnel has marked, and the client's card would heed the mark. */
  TunnelMark: 23,
} as const;
export type PassedOn = keyof typeof PassedOn;

/** Where the control page counts what the program passed on for this reason. */
export function counterAt(origin: Origin, reason: PassedOn): number {
  return Control.Counters + 8 * (origin * MOST_REASONS + PassedOn[reason]);
}

const MOST_REASONS = 32;
const CONTROL_BYTES = Control.Counters + 8 * 3 * MOST_REASONS;

export function flowsShape(entries: number): MapShape {
  return { type: "hash", keyBytes: KEY_BYTES, valueBytes: VALUE_BYTES, entries, name: "express_flows" };
}
export const GROUNDS_SHAPE: MapShape = {
  type: "array",
  keyBytes: 4,
  valueBytes: 4 * GROUNDS,
  entries: 1,
  name: "express_ground",
  mmapable: true,
};
export const CONTROL_SHAPE: MapShape = {
  type: "array",
  keyBytes: 4,
  valueBytes: CONTROL_BYTES,
  entries: 1,
  name: "express_control",
  mmapable: true,
};

/** The key of `entrances`: a published port, on an address or on all; or, without a port, an address of this node. */
export const EntranceKey = {
  Address: 0, // network order; 0: every address of this node
  Port: 4, // u16, network order
  Protocol: 6, // u16
} as const;
const ENTRANCE_KEY_BYTES = 8;
/** The value of `entrances`. */
export const EntranceValue = {
  /** u32, of Entrance. */
  Kind: 0,
  /** u32, the index of the only link by which clients may come; 0: they come by any. */
  Link: 4,
} as const;
const ENTRANCE_VALUE_BYTES = 8;
export const Entrance = {
  /** The address is this node's. */
  OwnAddress: 1,
  /** Packets to the port are led to the agent. */
  Led: 2,
  /** A process of this node has the port on this address. */
  Held: 3,
} as const;
export const ENTRANCES_SHAPE: MapShape = {
  type: "hash",
  keyBytes: ENTRANCE_KEY_BYTES,
  valueBytes: ENTRANCE_VALUE_BYTES,
  entries: 16_384, // with more, ports are left to nftables
  name: "express_enter",
  growing: true,
};

/**
 * `led`: the clients' ends of TCP connections whose first segment the program has led to the agent, keyed as SockTuple. Only the program
 * writes it. A connection that is not in it is nftables', or the node's own: it may have a published port as its own end by chance.
 */
export const LED_SHAPE: MapShape = {
  type: "lruHash",
  keyBytes: SOCK_TUPLE_BYTES,
  valueBytes: 4,
  entries: 32_768, // of a connection that was given up nftables lead the rest
  name: "express_led",
};

/** Descriptors of the maps that the programs use. */
export interface LaneMaps {
  flows: number;
  grounds: number;
  control: number;
  entrances: number;
  led: number;
}
