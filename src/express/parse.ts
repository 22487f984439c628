// Is it a packet that the lane carries? Here both programs check the inner IPv4 packet and its TCP or UDP header, and note key
// and lengths of it. What is out of the ordinary is the agent's. The agent checks the same, in packet/packet.ts and forwarder.ts.
import { Skb } from "../linux/bpf-abi.ts";
import { r1, r2, r3 } from "../linux/bpf-assembler.ts";
import * as ip from "../packet/ipv4.ts";
import * as tcp from "../packet/tcp.ts";
import * as udp from "../packet/udp.ts";
import { frame, type LaneAssembler, raw16, Stack, skb, stack } from "./lane-assembler.ts";
import { Key } from "./layout.ts";

/** The first byte of an IPv4 header without options. */
export const VERSION_4_NO_OPTIONS = 0x45;
const CONNECTION_FLAGS = tcp.Flag.Fin | tcp.Flag.Syn | tcp.Flag.Rst | tcp.Flag.Urg;

/** `at` is where the IPv4 header begins. `direction` is 0, or INBOUND. */
export function parse(a: LaneAssembler, at: number, direction: number): void {
  const transport = at + ip.IPV4_BYTES;
  a.needOrPassOn(transport + udp.UDP_BYTES, "Length");
  a.load(1, r1, frame, at);
  a.passOn(r1, "ne", VERSION_4_NO_OPTIONS, "Options");
  a.load(2, r1, frame, at + ip.FRAGMENT_AT);
  a.passOn(r1, "set", raw16(ip.MORE_FRAGMENTS | ip.OFFSET_MASK), "Fragment");
  a.load(1, r1, frame, at + ip.TTL_AT);
  a.passOn(r1, "le", 1, "Ttl"); // the agent never counts it down, and answers when it is used up

  a.load(2, r3, frame, at + ip.TOTAL_LENGTH_AT);
  a.bigEndian(r3, 16);
  a.store(4, stack, Stack.Total, r3);
  a.load(4, r2, skb, Skb.Len);
  a.alu("sub", r2, at); // the frame without what is before the packet
  a.passOn(r3, "ne", r2, "Length"); // padding, or a super-packet of another kind
  a.verifyHeader(at);

  a.load(4, r1, frame, at + ip.SOURCE_AT);
  a.store(4, stack, Stack.Key + Key.Source, r1);
  a.load(4, r1, frame, at + ip.DESTINATION_AT);
  a.store(4, stack, Stack.Key + Key.Destination, r1);
  a.load(4, r1, frame, transport); // both ports
  a.store(4, stack, Stack.Key + Key.Ports, r1);
  a.load(1, r1, frame, at + ip.PROTOCOL_AT);
  a.when(r1, "eq", ip.Protocol.Tcp, "tcp");
  a.passOn(r1, "ne", ip.Protocol.Udp, "Protocol");
  parseUdp(a, transport, direction);
  a.jump("parsed");
  a.label("tcp");
  parseTcp(a, transport, direction);
  a.label("parsed");
}

/** r3 is the packet's total length. */
function parseUdp(a: LaneAssembler, transport: number, direction: number): void {
  a.store(4, stack, Stack.Key + Key.Protocol, ip.Protocol.Udp | direction);
  a.store(4, stack, Stack.Headers, ip.IPV4_BYTES + udp.UDP_BYTES);
  a.load(2, r1, frame, transport + udp.LENGTH_AT);
  a.bigEndian(r1, 16);
  a.alu("add", r1, ip.IPV4_BYTES);
  a.passOn(r1, "ne", r3, "Length"); // a surplus area, RFC 9868
  a.load(2, r1, frame, transport + udp.CHECKSUM_AT);
  a.passOn(r1, "eq", 0, "NoUdpChecksum"); // then nothing but the outer checksum covers the payload
  a.load(4, r1, skb, Skb.GsoSize);
  a.passOn(r1, "ne", 0, "UdpSuperPacket"); // the mark of the tunnel would stay on it, and it would be cut wrongly
}

/** r3 is the packet's total length. */
function parseTcp(a: LaneAssembler, transport: number, direction: number): void {
  a.needOrPassOn(transport + tcp.TCP_BYTES, "Length");
  a.store(4, stack, Stack.Key + Key.Protocol, ip.Protocol.Tcp | direction);
  a.load(1, r1, frame, transport + tcp.FLAGS_AT);
  a.alu("and", r1, CONNECTION_FLAGS | tcp.Flag.Ack);
  a.passOn(r1, "ne", tcp.Flag.Ack, "TcpFlags"); // only the agent moves a flow's state
  a.load(1, r1, frame, transport + tcp.DATA_OFFSET_AT);
  a.alu("rsh", r1, 4);
  a.alu("lsh", r1, 2); // words to bytes
  a.passOn(r1, "lt", tcp.TCP_BYTES, "Length");
  a.alu("add", r1, ip.IPV4_BYTES);
  a.passOn(r1, "gt", r3, "Length");
  a.store(4, stack, Stack.Headers, r1);
}
