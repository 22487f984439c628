// A container may have a card write a checksum wherever it likes (packet(7), PACKET_VNET_HDR), in front of the TCP or UDP header too: into
// addresses that the program has looked at before. No field of the context tells where; two helpers give it away.
import { Helper } from "../linux/bpf-abi.ts";
import { r0, r1, r2, r3, r4, r5 } from "../linux/bpf-assembler.ts";
import { Protocol } from "../packet/ipv4.ts";
import * as tcp from "../packet/tcp.ts";
import * as udp from "../packet/udp.ts";
import { frame, type LaneAssembler, Stack, skb, stack } from "./lane-assembler.ts";
import { Key } from "./layout.ts";

const EINVAL = 22;

/** Drops such a packet. `transport` is where the TCP or UDP header begins. */
export function refuseStrayChecksum(a: LaneAssembler, transport: number): void {
  a.load(1, r1, stack, Stack.Key + Key.Protocol); // its low byte
  a.when(r1, "eq", Protocol.Udp, "a datagram");
  findUnfinished(a, transport + tcp.CHECKSUM_AT);
  a.label("a datagram");
  findUnfinished(a, transport + udp.CHECKSUM_AT);

  // The kernel cuts no packet short of the field into which a checksum is to go. So it refuses this where the field is behind the headers
  // that the program has looked at. Else the packet is spoiled, and must not go on.
  a.label("unfinished");
  a.mov(r1, skb);
  a.mov(r2, transport + 1);
  a.mov(r3, 0); // flags
  a.call(Helper.SkbChangeTail);
  a.drop(r0, "ne", -EINVAL, "StrayChecksum");
  a.label("no stray checksum");
  a.findFrame();
  a.need(transport + udp.UDP_BYTES, "Failed"); // as parse() saw; the verifier does not remember it
}

/**
 * Goes to "unfinished" when a checksum is left to a card, and else to "no stray checksum": there the helper changes the field at `field`
 * as if a word of the packet had changed, and the field gets its value back.
 */
function findUnfinished(a: LaneAssembler, field: number): void {
  a.need(field + 2, "Failed"); // as parse() saw; the verifier does not remember it
  a.load(2, r1, frame, field);
  a.store(4, stack, Stack.Checksum, r1);
  a.mov(r1, skb);
  a.mov(r2, field);
  a.mov(r3, 0);
  a.mov(r4, 1); // the difference: never one that leaves a sum as it is
  a.mov(r5, 0); // flags: no change of the pseudo-header
  a.call(Helper.L4CsumReplace);
  a.when(r0, "ne", 0, "Failed");
  a.findFrame();
  a.need(field + 2, "Failed");
  a.load(2, r1, frame, field);
  a.load(4, r2, stack, Stack.Checksum);
  a.when(r1, "eq", r2, "unfinished");
  a.store(2, frame, field, r2);
  a.jump("no stray checksum");
}
