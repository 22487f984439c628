// The last hop out of the overlay: the packet, a plain Ethernet frame by now, goes to a client outside, as the kernel forwards what the agent
// has written to the TUN. The kernel finds the next hop and its MAC. Conntrack and netfilter see nothing of it, as of what comes in.
import { Helper } from "../linux/bpf-abi.ts";
import { r1, r2, r3, r4 } from "../linux/bpf-assembler.ts";
import { ETHERNET_BYTES } from "../packet/ethernet.ts";
import * as ip from "../packet/ipv4.ts";
import { flow, frame, type LaneAssembler } from "./lane-assembler.ts";
import { Value } from "./layout.ts";

/** One less in the byte of the TTL, as a sum of words in the machine's order sees it. */
const TTL_DELTA = 0xfffe;

export function sendToClient(a: LaneAssembler): void {
  const at = ETHERNET_BYTES;
  a.findFrame();
  a.need(at + ip.IPV4_BYTES, "Failed");
  a.load(1, r1, frame, at + ip.TTL_AT);
  a.alu("sub", r1, 1); // parse() has seen that it was more than 1
  a.store(1, frame, at + ip.TTL_AT, r1);
  a.load(2, r1, frame, at + ip.CHECKSUM_AT);
  a.alu("xor", r1, 0xffff); // the field holds the sum's complement
  a.alu("add", r1, TTL_DELTA);
  a.fold(r1, r2);
  a.alu("xor", r1, 0xffff);
  a.store(2, frame, at + ip.CHECKSUM_AT, r1);
  a.load(4, r1, flow, Value.Link);
  a.mov(r2, 0);
  a.mov(r3, 0);
  a.mov(r4, 0); // flags
  a.call(Helper.RedirectNeigh);
  a.exit();
}
