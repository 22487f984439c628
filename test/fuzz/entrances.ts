// The program at the node's links under fuzz: random frames, and good ones with bytes changed, cut or added, are led to the agent when a
// plain model of the rules says so, and go on to the stack else. None is dropped, and none is changed.
import fc from "fast-check";
import { type EntranceRow, Entrances } from "../../src/express/entrances.ts";
import { Entrance, Origin } from "../../src/express/layout.ts";
import { cidr, contains, ipv4 } from "../../src/lib/ip.ts";
import { Tcx } from "../../src/linux/bpf-abi.ts";
import { EntranceModel } from "../express/entrance-model.ts";
import { ethernet, LaneRig, LOCAL, LOOPBACK, POOL } from "../express/lane-rig.ts";
import { ACK, FIN, type Fields, ipPacket, RST, SYN } from "../fakes/ip-packets.ts";
import { type Mutation, mutated, mutation } from "./mutation.ts";

const OWN = "192.0.2.11";
const OWN_TOO = "198.51.100.11";
const CLIENT = "192.0.2.100";
const row = (fields: Partial<EntranceRow>): EntranceRow => ({
  ...{ address: 0, port: 0, protocol: 0, kind: Entrance.Led, link: 0 },
  ...fields,
});
const ROWS: readonly EntranceRow[] = [
  ...[OWN, OWN_TOO].map((own) => row({ address: ipv4(own), kind: Entrance.OwnAddress })),
  ...[6, 17].flatMap((protocol) => [
    row({ port: 8080, protocol }),
    row({ address: ipv4(OWN_TOO), port: 8080, protocol, kind: Entrance.Held }),
    row({ address: ipv4(OWN), port: 8081, protocol, link: LOOPBACK }),
    row({ address: ipv4(OWN_TOO), port: 8082, protocol, link: LOOPBACK + 1 }),
  ]),
];

const SHAPES: Partial<Fields>[] = [
  { flags: SYN },
  { flags: ACK, payload: new Uint8Array(100).fill(7) },
  { flags: ACK | FIN },
  { flags: SYN | ACK },
  { flags: RST },
  { flags: SYN, options: new Uint8Array(12).fill(1) },
  { protocol: "udp", payload: new Uint8Array(40).fill(7) },
  { protocol: "udp", noChecksum: true },
  { flags: SYN, fragment: 0x2000 },
];
const TUPLES: Partial<Fields>[] = [
  {},
  ...[8081, 8082, 8090].map((destinationPort) => ({ destinationPort })),
  ...[OWN_TOO, LOCAL, "203.0.113.1"].map((destination) => ({ destination })),
  { destination: OWN_TOO, destinationPort: 8082 },
  ...[LOCAL, OWN_TOO, "127.0.0.1", "0.0.0.0", "239.0.0.1"].map((source) => ({ source })),
];
const PACKETS = TUPLES.flatMap((tuple) => SHAPES.map((shape) => packet({ ...tuple, ...shape })));
const ERRORS = PACKETS.flatMap((quoted) =>
  [3, 11, 12, 5, 8].map((type) => {
    const turned = quoted.slice(0, 28); // what the node has sent: its own address and port first
    turned.set(quoted.subarray(16, 20), 12);
    turned.set(quoted.subarray(12, 16), 16);
    turned.set(quoted.subarray(22, 24), 20);
    turned.set(quoted.subarray(20, 22), 22);
    const error = packet({ source: "203.0.113.7", protocol: "icmp", payload: turned });
    error[20] = type;
    return error;
  }),
);
const FRAMES = [...PACKETS, ...ERRORS].map((bytes) => ethernet(bytes));

function packet(fields: Partial<Fields>): Uint8Array {
  return ipPacket({ source: CLIENT, destination: OWN, sourcePort: 40_000, destinationPort: 8080, ...fields });
}

interface Input {
  readonly which: number;
  readonly mutation: Mutation;
  readonly noise: Uint8Array | undefined;
  readonly isOn: boolean;
}

/** Ethernet and IPv4 header: the kernel runs a program on no shorter frame. */
const SHORTEST = 34;
const input: fc.Arbitrary<Input> = fc.record({
  which: fc.nat(FRAMES.length - 1),
  mutation,
  noise: fc.oneof(
    { weight: 15, arbitrary: fc.constant(undefined) },
    { weight: 1, arbitrary: fc.uint8Array({ minLength: SHORTEST, maxLength: 200 }) },
  ),
  isOn: fc.oneof({ weight: 12, arbitrary: fc.constant(true) }, { weight: 1, arbitrary: fc.constant(false) }),
});

/** The frame up to the end of its packet, where the wire may have padded it. */
function withoutPadding(frame: Uint8Array): Uint8Array {
  return frame.length > 60 ? frame : frame.subarray(0, 14 + ((frame[16]! << 8) | frame[17]!));
}

/** How many of so many frames were led and left; throws with the input for which program and model disagree. */
export function fuzzEntrances(frames: number, seed: number): Record<string, number> {
  const rig = new LaneRig();
  rig.control.leadTo(LOOPBACK);
  new Entrances(rig.maps.entrances).put(ROWS);
  const pool = cidr(POOL);
  const model = new EntranceModel(ROWS, LOOPBACK, (address) => contains(pool, address));
  const outcome = { led: 0, left: 0 };
  const feed = (one: Input): void => {
    const frame = one.noise ?? mutated(FRAMES[one.which]!, 14, one.mutation);
    if (frame.length < SHORTEST) return;
    rig.control.turn(one.isOn);
    const isLed = one.isOn && model.leads(frame);
    const run = rig.run(Origin.Node, frame);
    const verdict = isLed ? Tcx.Redirect : Tcx.Next;
    if (run.verdict !== verdict) throw new Error(`the verdict is ${run.verdict}, not ${verdict}`);
    const isWhole = Buffer.from(run.frame).equals(frame);
    if (!isWhole && !Buffer.from(run.frame).equals(withoutPadding(frame))) throw new Error("the frame was changed");
    outcome[isLed ? "led" : "left"]++;
  };
  try {
    fc.assert(fc.property(input, feed), { numRuns: frames, seed, endOnFailure: true });
    return outcome;
  } finally {
    rig.close();
  }
}
