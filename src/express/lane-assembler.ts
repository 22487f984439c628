// What the lane's programs have in common: which register holds what, and the idioms of a few instructions that recur.
import { Helper, Skb, Tcx } from "../linux/bpf-abi.ts";
import { BpfAssembler, type Register, r0, r1, r2, r6, r7, r8, r9, r10 } from "../linux/bpf-assembler.ts";
import { OVERLAY_PREFIX, SOURCE_AT } from "../packet/ethernet.ts";
import { IPV4_BYTES } from "../packet/ipv4.ts";
import { counterAt, type LaneMaps, type Origin, type PassedOn, Value } from "./layout.ts";

// r0 to r5 hold what is in hand. These keep theirs:
/** The context of the packet. */
export const skb = r6;
/** The frame's first byte. What changes the packet's memory invalidates it, and `end`: the verifier watches over that. */
export const frame = r7;
/** The end of the part of the frame that lies in one piece, which the program can read. */
export const end = r8;
/** The value of the packet's flow, from look-up on. */
export const flow = r9;
/** What Stack has lies at offsets of it. */
export const stack = r10;

/** What a program keeps on its stack. */
export const Stack = {
  Key: -24, // as layout.ts has it
  Total: -28, // u32, the total length of the inner IP packet
  Headers: -32, // u32, the length of its IP and transport headers
  Now: -40, // u64, nanoseconds of CLOCK_MONOTONIC
  Checksum: -44, // u32, that of the TCP or UDP header
  Entrance: -56, // a key of `entrances`, as layout.ts has it
  Tuple: -72, // as SockTuple has it
  Protocol: -76, // u32
  Led: -80, // u32, a value of `led`
} as const;

type When = Parameters<BpfAssembler["when"]>;

/** A word of the network as a load of two bytes gives it. */
export function raw16(word: number): number {
  return ((word & 0xff) << 8) | (word >>> 8);
}
/** Two words of the network as a load of four bytes gives them. */
export function raw32(value: number): number {
  return ((raw16(value & 0xffff) << 16) | raw16(value >>> 16)) >>> 0;
}

export class LaneAssembler extends BpfAssembler {
  readonly maps: LaneMaps;
  readonly #origin: Origin;
  /** Where packets go that are passed on: "next", the next program or the stack, or a label of this program. */
  onward = "next";
  readonly #passings = new Map<string, { reason: PassedOn; onward: string }>(); // BOUNDED: by PassedOn and the program's labels
  readonly #drops = new Set<PassedOn>(["Failed"]); // BOUNDED: by PassedOn

  constructor(maps: LaneMaps, origin: Origin) {
    super();
    this.maps = maps;
    this.#origin = origin;
  }

  /** Passes the packet on to the agent, counted by this reason, when the comparison holds. */
  passOn(left: When[0], comparison: When[1], right: When[2], reason: PassedOn, onward = this.onward): this {
    return this.when(left, comparison, right, this.#passing(reason, onward));
  }

  #passing(reason: PassedOn, onward: string): string {
    const label = `${reason}, then ${onward}`;
    this.#passings.set(label, { reason, onward });
    return label;
  }

  /** Drops the packet, counted by this reason, when the comparison holds. */
  drop(left: When[0], comparison: When[1], right: When[2], reason: PassedOn): this {
    this.#drops.add(reason);
    return this.when(left, comparison, right, reason);
  }

  /** Finds the frame anew: after the start, and after each helper that may move it. */
  findFrame(): this {
    this.load(4, frame, skb, Skb.Data);
    return this.load(4, end, skb, Skb.DataEnd);
  }

  /** Goes to `label` when the frame cannot be read up to `bytes`. */
  need(bytes: number, label: string): this {
    this.mov(r2, frame);
    this.alu("add", r2, bytes);
    return this.when(r2, "gt", end, label);
  }

  /** Passes the packet on when it is shorter than `bytes`. */
  needOrPassOn(bytes: number, reason: PassedOn): this {
    return this.need(bytes, this.#passing(reason, this.onward));
  }

  /** Brings the frame's first `bytes`, or all of a shorter one, into one piece, and finds it anew. */
  pull(bytes: number): this {
    this.need(bytes, "apart");
    this.jump("in one piece");
    this.label("apart");
    this.mov(r1, skb);
    this.load(4, r2, skb, Skb.Len);
    this.when(r2, "le", bytes, "pull");
    this.mov(r2, bytes);
    this.label("pull");
    this.call(Helper.SkbPullData);
    this.passOn(r0, "ne", 0, "Length"); // no memory: the packet is as it was
    this.findFrame();
    return this.label("in one piece");
  }

  /** Folds the carries of a sum until 16 bits remain: two rounds do for one below 2^32. */
  fold(sum: Register, scratch: Register, rounds = 2): this {
    for (let i = 0; i < rounds; i++) {
      this.mov(scratch, sum);
      this.alu("rsh", scratch, 16);
      this.alu("and", sum, 0xffff);
      this.alu("add", sum, scratch);
    }
    return this;
  }

  /** Writes the MACs of the flow's addresses, which begin with OVERLAY_PREFIX, into the Ethernet header at `at`, which can be read. */
  writeMacs(at: number): this {
    this.store(2, frame, at, raw16(OVERLAY_PREFIX));
    this.load(4, r1, flow, Value.Destination);
    this.store(4, frame, at + 2, r1);
    this.store(2, frame, at + SOURCE_AT, raw16(OVERLAY_PREFIX));
    this.load(4, r1, flow, Value.Sender);
    return this.store(4, frame, at + SOURCE_AT + 2, r1);
  }

  /** Passes the packet on when the checksum of the IPv4 header at `at`, which has no options, is wrong. */
  verifyHeader(at: number): this {
    this.mov(r1, 0);
    for (let word = at; word < at + IPV4_BYTES; word += 4) {
      this.load(4, r2, frame, word);
      this.alu("add", r1, r2);
    }
    this.fold(r1, r2, 3); // five words of 32 bits
    return this.passOn(r1, "ne", 0xffff, "HeaderChecksum");
  }

  /** The places that passOn() jumps to, of packets that go on to this label; what follows is what comes after the counting. */
  passAll(onward: string): this {
    for (const [label, passing] of this.#passings) {
      if (passing.onward !== onward) continue;
      this.label(label);
      this.mapValue(r1, this.maps.control, counterAt(this.#origin, passing.reason));
      this.jump(`count, then ${onward}`);
    }
    this.label(`count, then ${onward}`);
    this.load(8, r2, r1, 0);
    this.alu("add", r2, 1);
    return this.store(8, r1, 0, r2);
  }

  /** Ends the program: the places that passOn(), drop() and "Failed" jump to. */
  override assemble(): Uint8Array {
    this.passAll("next");
    this.label("next");
    this.exit(Tcx.Next);

    for (const reason of this.#drops) {
      this.label(reason);
      this.mapValue(r1, this.maps.control, counterAt(this.#origin, reason));
      this.load(8, r2, r1, 0);
      this.alu("add", r2, 1);
      this.store(8, r1, 0, r2);
      this.exit(Tcx.Drop);
    }
    return super.assemble();
  }
}
