// Does it fit the way? What is too big is the agent's to cut or to answer (datapath/path-fit.ts).
import { Skb } from "../linux/bpf-abi.ts";
import { r1, r2 } from "../linux/bpf-assembler.ts";
import { MIN_SEGMENT_BYTES } from "../packet/virtio-net.ts";
import { flow, type LaneAssembler, Stack, skb, stack } from "./lane-assembler.ts";
import { Value } from "./layout.ts";

export function checkSize(a: LaneAssembler): void {
  a.load(4, r1, stack, Stack.Total);
  a.load(4, r2, skb, Skb.GsoSize);
  a.when(r2, "eq", 0, "whole");
  a.passOn(r2, "lt", MIN_SEGMENT_BYTES, "Length"); // the agent takes no such super-packet either
  a.load(4, r1, stack, Stack.Headers);
  a.alu("add", r1, r2); // a super-packet goes in segments of this length
  a.label("whole");
  a.load(2, r2, flow, Value.Mtu);
  a.passOn(r1, "gt", r2, "TooBig");
}
