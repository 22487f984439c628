// The last hop: the packet, a plain Ethernet frame by now, goes to a container of this node, as linux/link-sender.ts sends it:
// past routing and netfilter, its TTL as it is.
import { Helper, Skb } from "../linux/bpf-abi.ts";
import { r1, r2, r3 } from "../linux/bpf-assembler.ts";
import { Protocol } from "../packet/ipv4.ts";
import { flow, type LaneAssembler, Stack, skb, stack } from "./lane-assembler.ts";
import { Control, Key, Value } from "./layout.ts";

const MAC_BYTES = 6;

/** `mayJoin`: a TCP segment that comes singly goes by the container's link, if Control.ByLink says so. */
export function deliver(a: LaneAssembler, mayJoin: boolean): void {
  a.findFrame();
  a.need(2 * MAC_BYTES, "Failed");
  a.writeMacs(0);
  a.load(4, r1, flow, Value.Link);
  a.mov(r2, 0); // flags
  if (mayJoin) chooseLink(a);
  a.call(Helper.RedirectPeer);
  a.exit();
  if (!mayJoin) return;
  a.label("by the link");
  a.call(Helper.Redirect);
  a.exit();
}

/**
 * A super-packet goes into the container's end at once in any case: it has nothing to gain on the link, and where it came
 * through a tunnel the link could not cut it. The link joins no datagrams.
 */
function chooseLink(a: LaneAssembler): void {
  a.load(4, r3, skb, Skb.GsoSize);
  a.when(r3, "ne", 0, "into the container");
  a.load(1, r3, stack, Stack.Key + Key.Protocol); // its low byte
  a.when(r3, "ne", Protocol.Tcp, "into the container");
  a.mapValue(r3, a.maps.control);
  a.load(4, r3, r3, Control.ByLink);
  a.when(r3, "ne", 0, "by the link");
  a.label("into the container");
}
