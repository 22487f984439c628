// The program at the underlay's link: a peer's VXLAN frame of a flow that has an entry goes to the container, or to a client
// outside. All else goes on to the next program or to the stack, and with it to the agent's socket. Packets of the host that are no VXLAN are not counted.
import { Helper, Skb } from "../linux/bpf-abi.ts";
import { r0, r1, r2, r3, r4 } from "../linux/bpf-assembler.ts";
import { ETHERNET_BYTES, EtherType, TYPE_AT } from "../packet/ethernet.ts";
import * as ip from "../packet/ipv4.ts";
import { TCP_BYTES } from "../packet/tcp.ts";
import * as udp from "../packet/udp.ts";
import { FLAG_VNI, VNI_AT } from "../packet/vxlan.ts";
import { account } from "./account.ts";
import { checkSize } from "./check-size.ts";
import { deliver } from "./deliver.ts";
import { flow, frame, LaneAssembler, raw16, raw32, Stack, skb, stack } from "./lane-assembler.ts";
import { Flag, INBOUND, Key, type LaneMaps, Origin, Value } from "./layout.ts";
import { lookUp } from "./look-up.ts";
import * as outer from "./outer.ts";
import { parse, VERSION_4_NO_OPTIONS } from "./parse.ts";
import { rewrite } from "./rewrite.ts";
import { sendToClient } from "./to-client.ts";

const CONGESTION = 3;
const ECT_0 = 2;
const ECT_1 = 1;
/** bpf_csum_level(): what the card verified counts for one header less. */
const BPF_CSUM_LEVEL_DEC = 2;

/** Its code, for the tcx ingress of the underlay's link; `port` is where VXLAN arrives. */
export function fromUnderlay(maps: LaneMaps, port: number): Uint8Array {
  const a = new LaneAssembler(maps, Origin.Underlay);
  a.mov(skb, r1);
  a.findFrame();
  findVxlan(a, port);
  a.pull(outer.INNER_IP_AT + ip.IPV4_BYTES + TCP_BYTES);
  checkOuter(a);
  parse(a, outer.INNER_IP_AT, INBOUND);
  checkCongestion(a);
  lookUp(a);
  checkPeer(a);
  checkSize(a);
  checkMark(a);
  account(a, outer.INNER_IP_AT + ip.IPV4_BYTES, true);
  rewrite(a, outer.INNER_IP_AT);
  decapsulate(a);
  a.load(2, r1, flow, Value.Flags);
  a.when(r1, "set", Flag.ToClient, "to a client");
  deliver(a, true);
  a.label("to a client");
  sendToClient(a);
  return a.assemble();
}

/** The host's other packets end here, and fragments, which name no port. */
function findVxlan(a: LaneAssembler, port: number): void {
  a.need(outer.VXLAN_AT, "next");
  a.load(2, r1, frame, TYPE_AT);
  a.when(r1, "ne", raw16(EtherType.Ipv4), "next");
  a.load(1, r1, frame, outer.IP_AT);
  a.when(r1, "ne", VERSION_4_NO_OPTIONS, "next");
  a.load(1, r1, frame, outer.IP_AT + ip.PROTOCOL_AT);
  a.when(r1, "ne", ip.Protocol.Udp, "next");
  a.load(2, r1, frame, outer.IP_AT + ip.FRAGMENT_AT);
  a.when(r1, "set", raw16(ip.MORE_FRAGMENTS | ip.OFFSET_MASK), "next");
  a.load(2, r1, frame, outer.UDP_AT + 2); // the destination port
  a.when(r1, "ne", raw16(port), "next");
  a.load(4, r1, skb, Skb.VlanPresent);
  a.passOn(r1, "ne", 0, "Vlan"); // it is for another link
  a.load(4, r1, skb, Skb.PktType);
  a.passOn(r1, "ne", 0, "OtherMac"); // only a link that listens to all gets it
}

/** What the stack and the agent's socket would check. Key.Origin is the VXLAN header's second word. */
function checkOuter(a: LaneAssembler): void {
  a.needOrPassOn(outer.INNER_IP_AT + ip.IPV4_BYTES, "Length");
  a.verifyHeader(outer.IP_AT);
  a.load(2, r3, frame, outer.IP_AT + ip.TOTAL_LENGTH_AT);
  a.bigEndian(r3, 16);
  a.load(4, r2, skb, Skb.Len);
  a.alu("sub", r2, ETHERNET_BYTES);
  a.passOn(r3, "ne", r2, "Length"); // parse() looks whether the inner packet is as long as what is left
  a.load(2, r1, frame, outer.UDP_AT + udp.LENGTH_AT);
  a.bigEndian(r1, 16);
  a.alu("add", r1, ip.IPV4_BYTES);
  a.passOn(r1, "ne", r3, "Length"); // the stack has joined datagrams of the agent
  a.load(4, r1, frame, outer.VXLAN_AT);
  a.passOn(r1, "ne", raw32(FLAG_VNI << 24), "VxlanFlags");
  a.load(4, r1, frame, outer.VXLAN_AT + VNI_AT);
  a.store(4, stack, Stack.Key + Key.Origin, r1);
  a.load(2, r1, frame, outer.INNER_FRAME_AT + TYPE_AT);
  a.passOn(r1, "ne", raw16(EtherType.Ipv4), "NotIpv4");
}

/** RFC 6040 section 4.2, figure 4: where the inner header is to take something over, packet/ecn.ts does it. */
function checkCongestion(a: LaneAssembler): void {
  a.load(1, r1, frame, outer.IP_AT + ip.TOS_AT);
  a.alu("and", r1, outer.ECN_MASK);
  a.passOn(r1, "eq", CONGESTION, "Congestion");
  a.when(r1, "ne", ECT_1, "no congestion");
  a.load(1, r1, frame, outer.INNER_IP_AT + ip.TOS_AT);
  a.alu("and", r1, outer.ECN_MASK);
  a.passOn(r1, "eq", ECT_0, "Congestion");
  a.label("no congestion");
}

/** The frame came from the flow's peer to this node, and its outer UDP checksum is none that a card was still to make. */
function checkPeer(a: LaneAssembler): void {
  a.load(8, r1, frame, outer.IP_AT + ip.SOURCE_AT); // and destination
  a.load(8, r2, flow, Value.OuterSource);
  a.passOn(r1, "ne", r2, "OtherVtep");
  a.load(2, r1, frame, outer.UDP_AT + udp.CHECKSUM_AT);
  a.when(r1, "eq", 0, "outer is finished");
  a.load(4, r2, skb, Skb.GsoSize);
  a.when(r2, "ne", 0, "outer is finished"); // a super-packet's is made when it is cut, and it never will be
  // The field of an unfinished checksum holds the pseudo-header's sum. The kernel would take what it notes about it for the inner one's.
  a.load(2, r3, frame, outer.UDP_AT + udp.LENGTH_AT);
  a.load(2, r2, flow, Value.UdpSum);
  a.alu("add", r2, r3);
  a.fold(r2, r3);
  a.passOn(r1, "eq", r2, "UnfinishedOuter");
  a.label("outer is finished");
}

/** The kernel keeps the mark of a tunnel on what has come through one. */
function checkMark(a: LaneAssembler): void {
  a.load(4, r1, skb, Skb.GsoSize);
  a.when(r1, "eq", 0, "no mark");
  a.load(2, r1, flow, Value.Flags);
  a.passOn(r1, "set", Flag.NoTunnelMark, "TunnelMark");
  a.label("no mark");
}

function decapsulate(a: LaneAssembler): void {
  a.mov(r1, skb);
  a.mov(r2, -outer.OVERHEAD_BYTES);
  a.mov(r3, outer.ADJUST_AT_MAC);
  a.constant(r4, outer.FIXED_GSO | outer.NO_CSUM_RESET);
  a.call(Helper.SkbAdjustRoom);
  a.when(r0, "ne", 0, "Failed");
  a.mov(r1, skb);
  a.mov(r2, BPF_CSUM_LEVEL_DEC);
  a.call(Helper.CsumLevel);
}
