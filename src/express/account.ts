// What the entry keeps of its packets, as the agent's own path would have counted them (datapath/flow-tracker.ts).
import { Skb } from "../linux/bpf-abi.ts";
import { r1, r2, r3, r4 } from "../linux/bpf-assembler.ts";
import { Protocol } from "../packet/ipv4.ts";
import * as tcp from "../packet/tcp.ts";
import { flow, frame, type LaneAssembler, Stack, skb, stack } from "./lane-assembler.ts";
import { Key, Value } from "./layout.ts";

/**
 * `transport` is where the TCP or UDP header begins. A container's super-packet counts as one packet; one from the underlay as
 * the packets that were on the wire, each with its headers.
 */
export function account(a: LaneAssembler, transport: number, countsSegments: boolean): void {
  a.load(8, r1, stack, Stack.Now);
  a.store(8, flow, Value.Seen, r1);
  a.mov(r1, 1); // packets
  a.load(4, r2, stack, Stack.Total); // bytes
  if (countsSegments) countSegments(a);
  a.load(8, r3, flow, Value.Packets);
  a.alu("add", r3, r1);
  a.store(8, flow, Value.Packets, r3);
  a.load(8, r3, flow, Value.Bytes);
  a.alu("add", r3, r2);
  a.store(8, flow, Value.Bytes, r3);

  a.load(1, r1, stack, Stack.Key + Key.Protocol); // its low byte
  a.when(r1, "ne", Protocol.Tcp, "accounted");
  a.needOrPassOn(transport + tcp.TCP_BYTES, "Length"); // as parse() saw; the verifier does not remember it
  a.load(4, r1, frame, transport + tcp.SEQUENCE_AT);
  a.bigEndian(r1, 32);
  a.load(4, r2, stack, Stack.Total);
  a.alu32("add", r1, r2);
  a.load(4, r2, stack, Stack.Headers);
  a.alu32("sub", r1, r2); // the number after the payload
  advance(a, Value.Sequence, "sequence");
  a.load(4, r1, frame, transport + tcp.ACKNOWLEDGMENT_AT);
  a.bigEndian(r1, 32);
  advance(a, Value.Acknowledgment, "acknowledgment");
  a.label("accounted");
}

/** r1 is 1 and r2 the packet's length; they become the number of segments, and the length of all of them. */
function countSegments(a: LaneAssembler): void {
  a.load(4, r3, skb, Skb.GsoSize);
  a.when(r3, "eq", 0, "counted");
  a.load(4, r4, stack, Stack.Headers);
  a.mov(r1, r2);
  a.alu("sub", r1, r4); // the payload
  a.alu("add", r1, r3);
  a.alu("sub", r1, 1);
  a.alu32("div", r1, r3); // rounded up
  a.alu("mul", r4, r1); // as many headers
  a.load(4, r3, stack, Stack.Headers);
  a.alu("sub", r4, r3); // one is in the length already
  a.alu("add", r2, r4);
  a.label("counted");
}

/** Stores the TCP number in r1 in the entry unless a later one is there: retransmissions do not turn it back. */
function advance(a: LaneAssembler, field: number, name: string): void {
  a.load(4, r2, flow, field);
  a.when(r2, "eq", 0, `first ${name}`);
  a.mov32(r3, r1);
  a.alu32("sub", r3, r2);
  a.when32(r3, "sle", 0, `no new ${name}`); // RFC 9293 section 3.4: modulo 2^32
  a.label(`first ${name}`);
  a.store(4, flow, field, r1);
  a.label(`no new ${name}`);
}
