// The lane's programs under fuzz: random frames, and good ones with bytes changed, cut or added, get the verdict that a plain model of
// the rules gives, and what is sent has the bytes that it should have.
import fc from "fast-check";
import type { LaneEntry } from "../../src/express/entry.ts";
import { loseEverything } from "../../src/express/grounds.ts";
import { Origin } from "../../src/express/layout.ts";
import { ipv4 } from "../../src/lib/ip.ts";
import { Tcx } from "../../src/linux/bpf-abi.ts";
import { type LaneState, modelContainer, modelUnderlay, type Verdict } from "../express/lane-model.ts";
import {
  ethernet,
  fromPeer,
  LaneRig,
  LOCAL,
  LOOPBACK,
  ports,
  REMOTE,
  toContainer,
  toPeer,
  VIP,
  VXLAN_PORT,
  vxlan,
} from "../express/lane-rig.ts";
import { canonical, isHeaderRight, isUdpRight } from "../express/sums.ts";
import { ACK, FIN, type Fields, ipPacket, onesSum, PSH } from "../fakes/ip-packets.ts";
import { type Mutation, mutated, mutation } from "./mutation.ts";

const OUT = { source: LOCAL, destination: REMOTE, sourcePort: 40_000, destinationPort: 8080 };
const IN = { source: REMOTE, destination: LOCAL, sourcePort: 8080, destinationPort: 40_000 };
const BY_VIP = { destination: VIP, destinationPort: 80 };
const CLIENT = ports(40_001, 80);

/** Plain flows, and flows through a VIP, of both protocols, in each direction and on this node. */
const ENTRIES: readonly LaneEntry[] = [6, 17].flatMap((protocol) => [
  toPeer({ protocol }),
  toPeer({
    ...{ protocol, destination: ipv4(VIP), ports: CLIENT, hasOuterChecksum: true },
    ...{ newDestination: ipv4(REMOTE), newPorts: ports(40_001, 8080), vip: ipv4(VIP) },
  }),
  fromPeer({ protocol }),
  fromPeer({
    ...{ protocol, source: ipv4(REMOTE), ports: ports(8080, 40_001), vip: ipv4(VIP) },
    ...{ newSource: ipv4(VIP), newPorts: ports(80, 40_001) },
  }),
  toContainer({ protocol }),
]);

const SHAPES: Partial<Fields>[] = [
  { flags: ACK, payload: new Uint8Array(1000).fill(7) },
  { flags: ACK | PSH, payload: new Uint8Array(13).fill(7), options: new Uint8Array(12).fill(1) },
  { flags: ACK },
  { protocol: "udp", payload: new Uint8Array(500).fill(7) },
  { protocol: "udp" },
  { flags: ACK, payload: new Uint8Array(2900).fill(9) },
  { protocol: "udp", payload: new Uint8Array(1422).fill(3) },
  { protocol: "udp", noChecksum: true, payload: new Uint8Array(9) },
  { flags: ACK | FIN },
  { flags: ACK, ttl: 1 },
  { flags: ACK, tos: 2, fragment: 0 },
];
/** What is around a peer's packet. */
const OUTER: Partial<Fields>[] = [
  {},
  { noChecksum: false, tos: 2 },
  { noChecksum: false, partial: true },
  { tos: 1 },
  { tos: 3 },
  { source: "192.0.2.13" },
];
const TUPLES = {
  out: [OUT, { ...OUT, ...BY_VIP, sourcePort: 40_001 }, { ...OUT, destination: "10.192.32.11" }],
  in: [IN, { ...IN, destinationPort: 40_001 }],
};
const packets = (tuples: readonly (typeof OUT)[]): Uint8Array[] =>
  tuples.flatMap((tuple) => SHAPES.map((shape) => ipPacket({ ...tuple, ...shape })));
const FRAMES = {
  [Origin.Container]: packets(TUPLES.out).map((packet) => ethernet(packet)),
  [Origin.Underlay]: packets(TUPLES.in).flatMap((packet) => OUTER.map((outer) => vxlan(packet, outer))),
} as const;
const IP_AT = { [Origin.Container]: 14, [Origin.Underlay]: 64 } as const;
/** Ethernet and IPv4 header: the kernel runs a program on no shorter frame. */
const SHORTEST = 34;

export interface LaneInput {
  readonly origin: keyof typeof FRAMES;
  readonly which: number;
  readonly mutation: Mutation;
  /** Whether the outer lengths and checksum are mended too. */
  readonly mendsOuter: boolean;
  /** Random bytes in the place of a good frame. */
  readonly noise: Uint8Array | undefined;
  readonly gsoBytes: number;
  readonly state: "on" | "off" | "lease over" | "lost";
}

const input: fc.Arbitrary<LaneInput> = fc.record({
  origin: fc.constantFrom(Origin.Container, Origin.Underlay),
  which: fc.nat(1000),
  mutation,
  mendsOuter: fc.boolean(),
  noise: fc.oneof(
    { weight: 15, arbitrary: fc.constant(undefined) },
    { weight: 1, arbitrary: fc.uint8Array({ minLength: SHORTEST, maxLength: 200 }) },
  ),
  gsoBytes: fc.oneof(
    { weight: 4, arbitrary: fc.constant(0) },
    { weight: 1, arbitrary: fc.constantFrom(1, 7, 8, 100, 1398, 1411, 65_535) },
  ),
  state: fc.oneof(
    { weight: 12, arbitrary: fc.constant("on" as const) },
    { weight: 1, arbitrary: fc.constantFrom("off" as const, "lease over" as const, "lost" as const) },
  ),
});

/** What became of so many frames; throws with the input for which a program and the model disagree. */
export function fuzzLane(frames: number, seed: number): Record<string, number> {
  const fuzz = new LaneFuzz();
  try {
    fc.assert(
      fc.property(input, (one) => fuzz.feed(one)),
      { numRuns: frames, seed, endOnFailure: true },
    );
    return Object.fromEntries([...fuzz.outcome].sort());
  } finally {
    fuzz.close();
  }
}

class LaneFuzz {
  /** BOUNDED: by the reasons. */
  readonly outcome = new Map<string, number>();
  readonly #rig = new LaneRig();

  constructor() {
    this.#enter();
  }

  close(): void {
    this.#rig.close();
  }

  feed(one: LaneInput): void {
    const frame = frameOf(one);
    if (frame.length < SHORTEST) return;
    this.#set(one.state);
    const state: LaneState = {
      isOn: one.state !== "off",
      isLeased: one.state !== "lease over",
      lost: new Set(one.state === "lost" ? ENTRIES : []),
    };
    const { origin, gsoBytes } = one;
    const expected =
      origin === Origin.Container
        ? modelContainer(frame, gsoBytes, LOOPBACK, ENTRIES, state)
        : modelUnderlay(frame, gsoBytes, VXLAN_PORT, ENTRIES, state);
    const run = this.#rig.run(origin, frame, gsoBytes === 0 ? {} : { gsoBytes, gsoSegments: 2 });
    if (one.state === "lost") this.#enter();
    this.#count(expected);
    if ("sent" in expected && gsoBytes !== 0 && (expected.by.from !== 0 || expected.by.to !== 0)) {
      // A super-packet of a run has no type, so the kernel refuses to change its outer header.
      if (run.verdict !== Tcx.Drop || run.reasons.join() !== "Failed")
        throw new Error(`the verdict is ${run.verdict}, not to drop it`);
      return;
    }
    if ("sent" in expected) {
      if (run.verdict !== Tcx.Redirect)
        throw new Error(`the verdict is ${run.verdict} (${run.reasons}), not to send it`);
      compareSent(run.frame, expected, gsoBytes);
      return;
    }
    if (run.verdict !== Tcx.Next)
      throw new Error(`the verdict is ${run.verdict}, not to pass it on by ${expected.passedOn}`);
    if (run.reasons.join() !== (expected.passedOn ?? ""))
      throw new Error(`it was passed on by ${run.reasons}, not ${expected.passedOn}`);
    if (!Buffer.from(run.frame).equals(frame)) throw new Error("a packet that was passed on was changed");
  }

  #set(state: LaneInput["state"]): void {
    this.#rig.control.turn(state !== "off");
    this.#rig.control.lease(state === "lease over" ? 1n : 2n ** 62n);
    if (state === "lost") loseEverything(this.#rig.grounds);
  }

  #enter(): void {
    for (const entry of ENTRIES) this.#rig.enter(entry);
  }

  #count(verdict: Verdict): void {
    const what =
      "sent" in verdict ? (verdict.by.to === 0 ? "delivered" : "encapsulated") : (verdict.passedOn ?? "of the host");
    this.outcome.set(what, (this.outcome.get(what) ?? 0) + 1);
  }
}

function frameOf({ origin, which, mutation, mendsOuter, noise }: LaneInput): Uint8Array {
  if (noise !== undefined) return noise;
  const frames = FRAMES[origin];
  const bytes = mutated(frames[which % frames.length]!, IP_AT[origin], mutation);
  if (mendsOuter && origin === Origin.Underlay && bytes.length >= 42) mendOuter(bytes);
  return bytes;
}

function mendOuter(frame: Uint8Array): void {
  const view = new DataView(frame.buffer, frame.byteOffset);
  view.setUint16(16, frame.length - 14);
  view.setUint16(38, frame.length - 34);
  view.setUint16(24, 0);
  view.setUint16(24, ~onesSum(frame.subarray(14, 34)) & 0xffff);
}

/** The inner packet has the bytes of the model's; what is around it is built by its rules, and its checksums are right. */
function compareSent(frame: Uint8Array, { sent, by }: Extract<Verdict, { sent: unknown }>, gsoBytes: number): void {
  const at = by.to === 0 ? 14 : 64;
  const fields = [10, sent[9] === 6 ? 36 : 26];
  if (canonical(frame.subarray(at), fields) !== canonical(sent, fields))
    throw new Error("the inner packet has other bytes");
  if (by.to === 0) return;
  if (!isHeaderRight(frame, 14)) throw new Error("the outer header's checksum is wrong");
  const innerIsRight =
    onesSum(sent.subarray(20), onesSum(sent.subarray(12, 20), sent[9]! + sent.length - 20)) === 0xffff;
  if (innerIsRight && !isUdpRight(frame, 14)) throw new Error("the outer UDP checksum is wrong");
  const view = new DataView(frame.buffer, frame.byteOffset);
  if (view.getUint16(40) !== 0 && (gsoBytes !== 0 || !by.hasOuterChecksum))
    throw new Error("an outer checksum where none is to be");
  if (view.getInt32(30) !== by.to || view.getInt32(26) !== by.vtep) throw new Error("the outer addresses are wrong");
  if (frame[15] !== (sent[1]! & 3)) throw new Error("the outer ECN is not the inner one's");
}
