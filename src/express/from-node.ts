// The program at the node's own links. What comes for a published port, of a flow that has an entry, goes to the peer of its task, or to its
// task in a container of this node; else it goes to the TUN, and so to the agent, as it is. The kernel's tracking of connections never sees
// it. All else goes on to the stack, where nftables lead to the agent what belongs to a published port all the same, as they lead all of it
// where there is no such program:
// - fragments, once the kernel has put them together
// - segments of TCP connections whose beginning was not led. The node's own connections, and those that it translates for others, may
//   have a published port as their own end; the kernel alone knows them
// - datagrams to a port that a socket of the node has, for the same reason

import type { Cidr } from "../lib/ip.ts";
import { maskOf } from "../lib/ip.ts";
import { CURRENT_NAMESPACE, Helper, Skb, SOCK_TUPLE_BYTES, SockTuple } from "../linux/bpf-abi.ts";
import { r0, r1, r2, r3, r4, r5, r9 } from "../linux/bpf-assembler.ts";
import { ETHERNET_BYTES, EtherType, TYPE_AT } from "../packet/ethernet.ts";
import { ICMP_BYTES, Type } from "../packet/icmp.ts";
import * as ip from "../packet/ipv4.ts";
import * as tcp from "../packet/tcp.ts";
import { UDP_BYTES } from "../packet/udp.ts";
import { account } from "./account.ts";
import { checkSize } from "./check-size.ts";
import { deliver } from "./deliver.ts";
import { encapsulate } from "./encapsulate.ts";
import { flow, frame, LaneAssembler, raw16, Stack, skb, stack } from "./lane-assembler.ts";
import { Control, Entrance, EntranceKey, EntranceValue, Flag, Key, type LaneMaps, Origin, Value } from "./layout.ts";
import { lookUp } from "./look-up.ts";
import { parse, VERSION_4_NO_OPTIONS } from "./parse.ts";
import { rewrite } from "./rewrite.ts";
import { refuseStrayChecksum } from "./stray-checksum.ts";

const IP_AT = ETHERNET_BYTES;
const TRANSPORT_AT = IP_AT + ip.IPV4_BYTES;
/** Where an ICMP error quotes the packet that it is about. */
const QUOTED_AT = TRANSPORT_AT + ICMP_BYTES;
const QUOTED_TRANSPORT_AT = QUOTED_AT + ip.IPV4_BYTES;
/** The index of the TUN, from checkLane() on. */
const device = r9;
const LOOPBACK_NETWORK = 127;
const FIRST_MULTICAST_NETWORK = 224;
/** Without its checksum. */
const SHORTEST_FRAME_BYTES = 60;

/** Its code, for the tcx ingress of the node's links; `pool` has the overlay's addresses, which no sender outside has. */
export function fromNode(maps: LaneMaps, pool: Cidr): Uint8Array {
  const a = new LaneAssembler(maps, Origin.Node);
  a.mov(skb, r1);
  a.findFrame();
  checkFrame(a);
  readEnds(a);
  findEntrance(a);
  checkSource(a, pool);
  a.onward = "agent";
  trim(a);
  carry(a);
  a.passAll("agent");
  a.label("agent");
  a.onward = "next";
  a.findFrame();
  a.need(TRANSPORT_AT + UDP_BYTES, "next");
  checkLane(a);
  lead(a);
  return a.assemble();
}

/** Short frames come with padding behind the packet (IEEE 802.3), which the stack would take off. */
function trim(a: LaneAssembler): void {
  a.need(TRANSPORT_AT + UDP_BYTES, "agent");
  a.load(2, r2, frame, IP_AT + ip.TOTAL_LENGTH_AT);
  a.bigEndian(r2, 16);
  a.alu("add", r2, IP_AT);
  a.load(4, r1, skb, Skb.Len);
  a.when(r1, "le", r2, "trimmed");
  a.when(r1, "gt", SHORTEST_FRAME_BYTES, "trimmed");
  a.when(r2, "lt", TRANSPORT_AT + UDP_BYTES, "trimmed"); // lead() is to find both headers
  a.load(1, r1, frame, IP_AT + ip.PROTOCOL_AT);
  a.when(r1, "eq", ip.Protocol.Udp, "trim");
  a.when(r2, "lt", TRANSPORT_AT + tcp.TCP_BYTES, "trimmed");
  a.label("trim");
  a.mov(r1, skb);
  a.mov(r3, 0); // flags
  a.call(Helper.SkbChangeTail);
  a.findFrame();
  a.label("trimmed");
}

/** What is no packet of a flow in the lane goes to the agent. */
function carry(a: LaneAssembler): void {
  a.load(4, r1, skb, Skb.Ifindex);
  a.store(4, stack, Stack.Key + Key.Origin, r1);
  parse(a, IP_AT, 0);
  lookUp(a);
  checkSize(a);
  refuseStrayChecksum(a, TRANSPORT_AT); // a client may be another container of this machine
  account(a, TRANSPORT_AT, false);
  rewrite(a, IP_AT);
  a.load(2, r2, flow, Value.Flags);
  a.when(r2, "set", Flag.ToPeer, "to a peer");
  deliver(a, false);
  a.label("to a peer");
  encapsulate(a);
}

/** The host's other packets end here. */
function checkFrame(a: LaneAssembler): void {
  a.pull(QUOTED_TRANSPORT_AT + UDP_BYTES);
  a.need(TRANSPORT_AT + UDP_BYTES, "next");
  a.load(2, r1, frame, TYPE_AT);
  a.when(r1, "ne", raw16(EtherType.Ipv4), "next");
  a.load(1, r1, frame, IP_AT);
  a.when(r1, "ne", VERSION_4_NO_OPTIONS, "next");
  a.load(2, r1, frame, IP_AT + ip.FRAGMENT_AT);
  a.when(r1, "set", raw16(ip.MORE_FRAGMENTS | ip.OFFSET_MASK), "next");
  a.load(4, r1, skb, Skb.VlanPresent);
  a.when(r1, "ne", 0, "next"); // it is for another link
  a.load(4, r1, skb, Skb.PktType);
  a.when(r1, "ne", 0, "next"); // it is for another machine, or for many
}

/**
 * Writes protocol and port of this node into the key, and both ends of the connection into the tuple: of an ICMP error, those of the packet
 * that it quotes, which this node has sent.
 */
function readEnds(a: LaneAssembler): void {
  a.load(1, r1, frame, IP_AT + ip.PROTOCOL_AT);
  a.load(4, r2, frame, IP_AT + ip.SOURCE_AT);
  a.store(4, stack, Stack.Tuple + SockTuple.Source, r2);
  a.load(4, r2, frame, IP_AT + ip.DESTINATION_AT);
  a.store(4, stack, Stack.Tuple + SockTuple.Destination, r2);
  a.load(2, r3, frame, TRANSPORT_AT); // the source port
  a.load(2, r2, frame, TRANSPORT_AT + 2); // the destination port
  a.when(r1, "eq", ip.Protocol.Tcp, "ends");
  a.when(r1, "eq", ip.Protocol.Udp, "ends");
  a.when(r1, "ne", ip.Protocol.Icmp, "next");

  a.load(1, r1, frame, TRANSPORT_AT);
  for (const type of [Type.Unreachable, Type.TimeExceeded, Type.ParameterProblem]) a.when(r1, "eq", type, "error");
  a.jump("next");
  a.label("error");
  a.need(QUOTED_TRANSPORT_AT + UDP_BYTES, "next");
  a.load(1, r1, frame, QUOTED_AT);
  a.when(r1, "ne", VERSION_4_NO_OPTIONS, "next");
  a.load(4, r1, frame, QUOTED_AT + ip.SOURCE_AT);
  a.load(4, r2, frame, IP_AT + ip.DESTINATION_AT);
  a.when(r1, "ne", r2, "next");
  a.load(4, r1, frame, QUOTED_AT + ip.DESTINATION_AT);
  a.store(4, stack, Stack.Tuple + SockTuple.Source, r1);
  a.load(1, r1, frame, QUOTED_AT + ip.PROTOCOL_AT);
  a.load(2, r3, frame, QUOTED_TRANSPORT_AT + 2); // the destination port
  a.load(2, r2, frame, QUOTED_TRANSPORT_AT); // the source port
  a.when(r1, "eq", ip.Protocol.Tcp, "ends");
  a.when(r1, "ne", ip.Protocol.Udp, "next");
  a.label("ends");
  a.store(4, stack, Stack.Protocol, r1);
  a.store(2, stack, Stack.Entrance + EntranceKey.Protocol, r1);
  a.store(2, stack, Stack.Entrance + EntranceKey.Port, r2);
  a.store(2, stack, Stack.Tuple + SockTuple.DestinationPort, r2);
  a.store(2, stack, Stack.Tuple + SockTuple.SourcePort, r3);
}

/** An address of its own goes before all addresses. */
function findEntrance(a: LaneAssembler): void {
  a.load(4, r1, frame, IP_AT + ip.DESTINATION_AT);
  a.store(4, stack, Stack.Entrance + EntranceKey.Address, r1);
  lookUpEntrance(a);
  a.when(r0, "ne", 0, "on this address");
  a.store(4, stack, Stack.Entrance + EntranceKey.Address, 0);
  lookUpEntrance(a);
  a.when(r0, "eq", 0, "next");
  a.jump("published");

  a.label("on this address");
  a.load(4, r1, r0, EntranceValue.Kind);
  a.when(r1, "ne", Entrance.Led, "next"); // a process of the node has it
  a.load(4, r1, r0, EntranceValue.Link);
  a.when(r1, "eq", 0, "published");
  a.load(4, r2, skb, Skb.Ifindex);
  a.when(r1, "ne", r2, "next"); // nftables drop it, and count it

  a.label("published");
  a.load(4, r1, frame, IP_AT + ip.DESTINATION_AT);
  lookUpOwn(a);
  a.when(r0, "eq", 0, "next"); // the node forwards it
}

/** A source that no client has: the stack drops it, and nftables count those of the pool. */
function checkSource(a: LaneAssembler, { base, bits }: Cidr): void {
  a.load(4, r1, frame, IP_AT + ip.SOURCE_AT);
  a.bigEndian(r1, 32);
  a.mov(r2, r1);
  a.alu("rsh", r2, 24);
  a.when(r2, "eq", 0, "next");
  a.when(r2, "eq", LOOPBACK_NETWORK, "next");
  a.when(r2, "ge", FIRST_MULTICAST_NETWORK, "next");
  a.alu32("and", r1, maskOf(bits));
  a.when32(r1, "eq", base, "next");
  a.load(4, r1, frame, IP_AT + ip.SOURCE_AT);
  lookUpOwn(a);
  a.when(r0, "ne", 0, "next");
}

/** r1 is an address. r0 is 0 if it is none of this node's. */
function lookUpOwn(a: LaneAssembler): void {
  a.store(4, stack, Stack.Entrance + EntranceKey.Address, r1);
  a.store(4, stack, Stack.Entrance + EntranceKey.Port, 0); // and the protocol
  lookUpEntrance(a);
}

function lookUpEntrance(a: LaneAssembler): void {
  a.map(r1, a.maps.entrances);
  a.mov(r2, stack);
  a.alu("add", r2, Stack.Entrance);
  a.call(Helper.MapLookup);
}

/** Leaves the index of the TUN in r9. */
function checkLane(a: LaneAssembler): void {
  a.call(Helper.KtimeGetCoarseNs);
  a.mapValue(r1, a.maps.control);
  a.load(4, r2, r1, Control.IsOn);
  a.passOn(r2, "eq", 0, "Off");
  a.load(8, r2, r1, Control.LeaseUntil);
  a.passOn(r0, "gt", r2, "LeaseOver");
  a.load(4, device, r1, Control.Device);
  a.passOn(device, "eq", 0, "Off");
}

/** Leads what is no connection of the node itself. */
function lead(a: LaneAssembler): void {
  a.load(4, r1, stack, Stack.Protocol);
  a.when(r1, "eq", ip.Protocol.Udp, "datagram");
  a.load(1, r1, frame, IP_AT + ip.PROTOCOL_AT);
  a.when(r1, "eq", ip.Protocol.Icmp, "later");
  a.need(TRANSPORT_AT + tcp.TCP_BYTES, "next");
  a.load(1, r1, frame, TRANSPORT_AT + tcp.FLAGS_AT);
  a.alu("and", r1, tcp.Flag.Syn | tcp.Flag.Ack | tcp.Flag.Rst | tcp.Flag.Fin);
  a.when(r1, "eq", tcp.Flag.Syn, "first");
  a.label("later");
  aimAtTuple(a);
  a.call(Helper.MapLookup);
  a.when(r0, "eq", 0, "next");
  a.jump("lead");

  a.label("first");
  a.store(4, stack, Stack.Led, 1);
  aimAtTuple(a);
  a.mov(r3, stack);
  a.alu("add", r3, Stack.Led);
  a.mov(r4, 0); // flags
  a.call(Helper.MapUpdate);
  a.when(r0, "eq", 0, "lead");
  a.jump("next");

  a.label("datagram");
  a.mov(r1, skb);
  a.mov(r2, stack);
  a.alu("add", r2, Stack.Tuple);
  a.mov(r3, SOCK_TUPLE_BYTES);
  a.mov(r4, CURRENT_NAMESPACE);
  a.mov(r5, 0); // flags
  a.call(Helper.SkLookupUdp);
  a.when(r0, "eq", 0, "lead");
  a.mov(r1, r0);
  a.call(Helper.SkRelease);
  a.jump("next");

  a.label("lead");
  a.mov(r1, device);
  a.mov(r2, 0); // flags
  a.call(Helper.Redirect);
  a.exit();
}

function aimAtTuple(a: LaneAssembler): void {
  a.map(r1, a.maps.led);
  a.mov(r2, stack);
  a.alu("add", r2, Stack.Tuple);
}
