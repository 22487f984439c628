// From a container's packet to a VXLAN frame for a peer, RFC 7348 section 5, as datapath/encapsulate.ts and the agent's sockets
// make it. A super-packet stays whole: the link, or its card, cuts it.
import { Helper, Skb } from "../linux/bpf-abi.ts";
import { r0, r1, r2, r3, r4 } from "../linux/bpf-assembler.ts";
import { ETHERNET_BYTES, EtherType, TYPE_AT } from "../packet/ethernet.ts";
import * as ip from "../packet/ipv4.ts";
import * as udp from "../packet/udp.ts";
import { FLAG_VNI, VNI_AT } from "../packet/vxlan.ts";
import { UDP_WORD, VERSION_WORD } from "./entry.ts";
import { flow, frame, type LaneAssembler, raw16, raw32, Stack, skb, stack } from "./lane-assembler.ts";
import { Flag, Value } from "./layout.ts";
import * as outer from "./outer.ts";

const ADJUST =
  outer.FIXED_GSO |
  outer.ENCAP_L3_IPV4 |
  outer.ENCAP_L4_UDP |
  outer.ENCAP_L2_ETH |
  (BigInt(ETHERNET_BYTES) << outer.ENCAP_L2_SHIFT);

export function encapsulate(a: LaneAssembler): void {
  a.mov(r1, skb);
  a.mov(r2, outer.OVERHEAD_BYTES);
  a.mov(r3, outer.ADJUST_AT_MAC);
  a.constant(r4, ADJUST);
  a.call(Helper.SkbAdjustRoom);
  a.when(r0, "ne", 0, "Failed");
  a.findFrame();
  a.need(outer.INNER_IP_AT + ip.IPV4_BYTES, "Failed");
  writeIp(a);
  writeUdp(a);
  writeVxlan(a);
  a.load(4, r1, flow, Value.Link);
  a.mov(r2, 0); // the next hop and its MAC are the kernel's to find
  a.mov(r3, 0);
  a.mov(r4, 0); // flags
  a.call(Helper.RedirectNeigh);
  a.exit();
}

function writeIp(a: LaneAssembler): void {
  const at = outer.IP_AT;
  a.store(2, frame, at, raw16(VERSION_WORD));
  a.load(1, r3, frame, outer.INNER_IP_AT + ip.TOS_AT);
  a.alu("and", r3, outer.ECN_MASK); // RFC 6040 section 4.1: the inner header's
  a.store(1, frame, at + ip.TOS_AT, r3);
  a.load(4, r1, stack, Stack.Total);
  a.alu("add", r1, outer.OVERHEAD_BYTES);
  a.bigEndian(r1, 16);
  a.store(2, frame, at + ip.TOTAL_LENGTH_AT, r1);
  a.store(4, frame, at + ip.ID_AT, raw32(ip.DONT_FRAGMENT)); // with DF the identification may be 0, RFC 6864
  a.store(2, frame, at + ip.TTL_AT, raw16(UDP_WORD)); // with the protocol
  a.alu("lsh", r3, 8); // TOS is the second byte of its word
  a.alu("add", r1, r3);
  a.load(2, r2, flow, Value.HeaderSum);
  a.alu("add", r1, r2);
  a.fold(r1, r2);
  a.alu("xor", r1, 0xffff);
  a.store(2, frame, at + ip.CHECKSUM_AT, r1);
  a.load(8, r1, flow, Value.OuterSource); // and destination
  a.store(8, frame, at + ip.SOURCE_AT, r1);
}

function writeUdp(a: LaneAssembler): void {
  const at = outer.UDP_AT;
  a.load(4, r1, flow, Value.OuterPorts);
  a.store(4, frame, at, r1);
  a.load(4, r3, stack, Stack.Total);
  a.mov(r1, r3);
  a.alu("add", r1, outer.OVERHEAD_BYTES - ip.IPV4_BYTES);
  a.bigEndian(r1, 16);
  a.store(2, frame, at + udp.LENGTH_AT, r1);
  a.store(2, frame, at + udp.CHECKSUM_AT, 0); // none, as RFC 7348 section 5 asks for
  a.load(2, r2, flow, Value.Flags);
  a.when(r2, "set", Flag.OuterChecksum, "outer checksum");
  a.jump("udp written");
  a.label("outer checksum");
  a.load(4, r2, skb, Skb.GsoSize);
  a.when(r2, "ne", 0, "udp written"); // all segments of a super-packet would get the same one
  a.alu("lsh", r1, 1); // the length is in the header and in the pseudo-header
  a.alu("sub", r3, ip.IPV4_BYTES);
  a.bigEndian(r3, 16);
  a.alu("xor", r3, 0xffff); // out goes that of the inner pseudo-header: the rest of it is in UdpSum
  a.alu("add", r1, r3);
  a.load(2, r2, flow, Value.UdpSum);
  a.alu("add", r1, r2);
  a.fold(r1, r2);
  a.alu("xor", r1, 0xffff);
  a.when(r1, "ne", 0, "not 0");
  a.mov(r1, 0xffff); // RFC 768: 0 would mean none
  a.label("not 0");
  a.store(2, frame, at + udp.CHECKSUM_AT, r1);
  a.label("udp written");
}

function writeVxlan(a: LaneAssembler): void {
  a.store(4, frame, outer.VXLAN_AT, raw32(FLAG_VNI << 24));
  a.load(4, r1, flow, Value.VniWord);
  a.store(4, frame, outer.VXLAN_AT + VNI_AT, r1);
  a.writeMacs(outer.INNER_FRAME_AT);
  a.store(2, frame, outer.INNER_FRAME_AT + TYPE_AT, raw16(EtherType.Ipv4));
}
