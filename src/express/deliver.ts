// The last hop: the packet, a plain Ethernet frame by now, goes to a container of this node, as linux/link-sender.ts sends it:
// past routing and netfilter, its TTL as it is.
import { Helper, Skb } from "../linux/bpf-abi.ts";
import { r1, r2, r3 } from "../linux/bpf-assembler.ts";
import { flow, type LaneAssembler, skb } from "./lane-assembler.ts";
import { Flag, Value } from "./layout.ts";

const MAC_BYTES = 6;

/**
 * A super-packet goes into the container's end at once in any case: it has nothing to gain on the link, and where it came
 * through a tunnel the link could not cut it.
 */
export function deliver(a: LaneAssembler): void {
  a.findFrame();
  a.need(2 * MAC_BYTES, "failed");
  a.writeMacs(0);
  a.load(4, r1, flow, Value.Link);
  a.mov(r2, 0); // flags
  a.load(4, r3, skb, Skb.GsoSize);
  a.when(r3, "ne", 0, "into the container");
  a.load(2, r3, flow, Value.Flags);
  a.when(r3, "set", Flag.ByLink, "by the link");
  a.label("into the container");
  a.call(Helper.RedirectPeer);
  a.exit();
  a.label("by the link");
  a.call(Helper.Redirect);
  a.exit();
}
