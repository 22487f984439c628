// May it go by the lane? Its flow's entry must be there, the lane on, its lease not over, and nothing that the entry stands on
// lost since the agent decided the flow.
import { Helper } from "../linux/bpf-abi.ts";
import { r0, r1, r2, r3, r4 } from "../linux/bpf-assembler.ts";
import { EVERYTHING } from "./grounds.ts";
import { flow, type LaneAssembler, Stack, stack } from "./lane-assembler.ts";
import { Control, GROUNDS_OF_ENTRY, Value } from "./layout.ts";

const GROUND_SHIFT = 2; // a counter has four bytes

/** The key is on the stack. After it `flow` is the entry's value. */
export function lookUp(a: LaneAssembler): void {
  a.map(r1, a.maps.flows);
  a.mov(r2, stack);
  a.alu("add", r2, Stack.Key);
  a.call(Helper.MapLookup);
  a.passOn(r0, "eq", 0, "NoEntry"); // also for an address or network that is not the container's
  a.mov(flow, r0);

  a.call(Helper.KtimeGetCoarseNs);
  a.store(8, stack, Stack.Now, r0);
  a.mapValue(r1, a.maps.control);
  a.load(4, r2, r1, Control.IsOn);
  a.passOn(r2, "eq", 0, "Off", "next");
  a.load(8, r2, r1, Control.LeaseUntil);
  a.passOn(r0, "gt", r2, "LeaseOver", "next");
  verifyGrounds(a);
}

function verifyGrounds(a: LaneAssembler): void {
  a.mapValue(r1, a.maps.grounds);
  a.load(4, r2, r1, EVERYTHING << GROUND_SHIFT); // the sum
  for (let i = 0; i < GROUNDS_OF_ENTRY; i++) {
    a.load(2, r3, flow, Value.Grounds + 2 * i);
    a.alu("lsh", r3, GROUND_SHIFT);
    a.mov(r4, r1);
    a.alu("add", r4, r3);
    a.load(4, r4, r4, 0);
    a.alu32("add", r2, r4);
  }
  a.load(4, r3, flow, Value.GroundSum);
  a.passOn(r2, "ne", r3, "LostGround"); // the agent looks at the flow, once, and writes the entry anew
}
