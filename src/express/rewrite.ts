// The packet gets the addresses and ports of the other side, checksums along (RFC 1624), as Packet.rewrite() does. The agent has
// computed the differences when it wrote the entry.
import { Helper } from "../linux/bpf-abi.ts";
import { r0, r1, r2, r3, r4, r5 } from "../linux/bpf-assembler.ts";
import * as ip from "../packet/ipv4.ts";
import * as tcp from "../packet/tcp.ts";
import * as udp from "../packet/udp.ts";
import { flow, frame, type LaneAssembler, Stack, skb, stack } from "./lane-assembler.ts";
import { Flag, Key, Value } from "./layout.ts";

// Flags of bpf_l4_csum_replace(). It takes a difference when the old value is given as 0.
/** The difference is one of the pseudo-header, so it counts also where the field holds that header's sum alone. */
const BPF_F_PSEUDO_HDR = 0x10;
/** UDP: a checksum that becomes 0 is written as 0xffff. */
const BPF_F_MARK_MANGLED_0 = 0x20;

/** `at` is where the IPv4 header begins. After it the frame must be found anew. */
export function rewrite(a: LaneAssembler, at: number): void {
  const transport = at + ip.IPV4_BYTES;
  a.load(2, r3, flow, Value.Flags);
  a.when(r3, "set", Flag.Rewrites, "rewrite");
  a.jump("rewritten");

  a.label("rewrite");
  a.load(4, r1, flow, Value.Source);
  a.store(4, frame, at + ip.SOURCE_AT, r1);
  a.load(4, r1, flow, Value.Destination);
  a.store(4, frame, at + ip.DESTINATION_AT, r1);
  a.load(2, r1, frame, at + ip.CHECKSUM_AT);
  a.alu("xor", r1, 0xffff); // the field holds the sum's complement
  a.load(2, r2, flow, Value.AddressDelta);
  a.alu("add", r1, r2);
  a.fold(r1, r2);
  a.alu("xor", r1, 0xffff);
  a.store(2, frame, at + ip.CHECKSUM_AT, r1);
  a.when(r3, "set", Flag.RewritesPorts, "ports");
  a.jump("transport checksum");
  a.label("ports");
  a.load(4, r1, flow, Value.Ports);
  a.store(4, frame, transport, r1);

  a.label("transport checksum");
  a.load(1, r1, stack, Stack.Key + Key.Protocol);
  a.when(r1, "eq", ip.Protocol.Udp, "udp checksum");
  updateChecksum(a, transport + tcp.CHECKSUM_AT, 0);
  a.jump("rewritten");
  a.label("udp checksum");
  updateChecksum(a, transport + udp.CHECKSUM_AT, BPF_F_MARK_MANGLED_0);
  a.label("rewritten");
}

/** Only the helper knows whether the field holds a checksum, or what a network card is to make one of. */
function updateChecksum(a: LaneAssembler, field: number, flags: number): void {
  for (const [delta, kind] of [
    [Value.AddressDelta, BPF_F_PSEUDO_HDR],
    [Value.PortDelta, 0],
  ] as const) {
    a.load(2, r4, flow, delta);
    a.when(r4, "eq", 0, `${field} without ${delta}`); // nothing changed
    a.mov(r1, skb);
    a.mov(r2, field);
    a.mov(r3, 0);
    a.mov(r5, kind | flags);
    a.call(Helper.L4CsumReplace);
    a.when(r0, "ne", 0, "Failed");
    a.label(`${field} without ${delta}`);
  }
}
