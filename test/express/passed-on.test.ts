// Each reason for which the lane's programs pass a packet on to the agent, alone: the packet leaves as it came, its counter and no
// other goes up, and the entry counts nothing.
import type { ExecutionContext } from "ava";
import { loseEverything, loseGround } from "../../src/express/grounds.ts";
import { Origin, PassedOn } from "../../src/express/layout.ts";
import { ipv4 } from "../../src/lib/ip.ts";
import { Tcx } from "../../src/linux/bpf-abi.ts";
import type { SkbContext } from "../../src/linux/bpf-program.ts";
import { ACK, FIN, type Fields, ipPacket, onesSum, RST, SYN } from "../fakes/ip-packets.ts";
import { withIpOptions } from "../fakes/segments.ts";
import { bpfTest, useRig } from "./bpf-test.ts";
import {
  CLIENT_PORT,
  ethernet,
  fromPeer,
  type LaneRig,
  LOCAL,
  MTU,
  REMOTE,
  SELF,
  SERVER_PORT,
  toPeer,
  VIP,
  VNI,
  vxlan,
} from "./lane-rig.ts";

const OUT: Fields = {
  ...{ source: LOCAL, destination: REMOTE, sourcePort: CLIENT_PORT, destinationPort: SERVER_PORT },
  ...{ flags: ACK, payload: new Uint8Array(100).fill(5) },
};
const IN: Fields = {
  ...{ source: REMOTE, destination: LOCAL, sourcePort: SERVER_PORT, destinationPort: CLIENT_PORT },
  ...{ flags: ACK, payload: new Uint8Array(100).fill(5) },
};
const URG = 0x20;

/** A changed copy whose header checksum is made anew. */
function changed(packet: Uint8Array, at: number, ...values: number[]): Uint8Array {
  const copy = packet.slice();
  copy.set(values, at);
  const view = new DataView(copy.buffer);
  view.setUint16(10, 0);
  view.setUint16(10, ~onesSum(copy.subarray(0, 20)) & 0xffff);
  return copy;
}
/** A changed copy, its checksums as they were. */
function broken(bytes: Uint8Array, at: number, ...values: number[]): Uint8Array {
  const copy = bytes.slice();
  copy.set(values, at);
  return copy;
}
const padded = (bytes: Uint8Array): Uint8Array => Uint8Array.from([...bytes, 0]);

/** What is wrong with an inner packet, wherever it comes from. */
const INNER: [title: string, reason: PassedOn, packet: (fields: Fields) => Uint8Array, context?: SkbContext][] = [
  ["IP options", "Options", (f) => withIpOptions(ipPacket(f), [1, 1, 1, 0])],
  ["IP version 6", "Options", (f) => changed(ipPacket(f), 0, 0x65)],
  ["a first fragment", "Fragment", (f) => ipPacket({ ...f, fragment: 0x2000 })],
  ["a last fragment", "Fragment", (f) => ipPacket({ ...f, fragment: 0x0001 })],
  ["TTL 1", "Ttl", (f) => ipPacket({ ...f, ttl: 1 })],
  ["TTL 0", "Ttl", (f) => ipPacket({ ...f, ttl: 0 })],
  ["ICMP", "Protocol", (f) => ipPacket({ ...f, protocol: "icmp" })],
  ["SCTP", "Protocol", (f) => changed(ipPacket(f), 9, 132)],
  ["a wrong header checksum", "HeaderChecksum", (f) => broken(ipPacket(f), 11, 0xaa)],
  ["an IP length below the packet's", "Length", (f) => changed(ipPacket(f), 2, 0, 60)],
  ["an IP length above the packet's", "Length", (f) => changed(ipPacket(f), 2, 1, 60)],
  ["a TCP header of 16 bytes", "Length", (f) => broken(ipPacket(f), 32, 0x40)],
  [
    "a TCP header longer than the segment",
    "Length",
    (f) => broken(ipPacket({ ...f, payload: new Uint8Array(8) }), 32, 0x80),
  ],
  ["a cut TCP header", "Length", (f) => changed(ipPacket(f).slice(0, 36), 2, 0, 36)],
  ["a cut UDP header", "Length", (f) => changed(ipPacket({ ...f, protocol: "udp" }).slice(0, 26), 2, 0, 26)],
  ["a UDP surplus area", "Length", (f) => broken(ipPacket({ ...f, protocol: "udp" }), 24, 0, 50)],
  ["a UDP length beyond the packet", "Length", (f) => broken(ipPacket({ ...f, protocol: "udp" }), 24, 0, 200)],
  ["FIN", "TcpFlags", (f) => ipPacket({ ...f, flags: ACK | FIN })],
  ["SYN", "TcpFlags", (f) => ipPacket({ ...f, flags: SYN })],
  ["SYN and ACK", "TcpFlags", (f) => ipPacket({ ...f, flags: SYN | ACK })],
  ["RST", "TcpFlags", (f) => ipPacket({ ...f, flags: RST | ACK })],
  ["URG", "TcpFlags", (f) => ipPacket({ ...f, flags: URG | ACK })],
  ["no ACK", "TcpFlags", (f) => ipPacket({ ...f, flags: 0 })],
  ["no UDP checksum", "NoUdpChecksum", (f) => ipPacket({ ...f, protocol: "udp", noChecksum: true })],
  [
    "a UDP super-packet",
    "UdpSuperPacket",
    (f) => ipPacket({ ...f, protocol: "udp" }),
    { gsoBytes: 50, gsoSegments: 2 },
  ],
  ["another address", "NoEntry", (f) => ipPacket({ ...f, destination: VIP })],
  ["another source", "NoEntry", (f) => ipPacket({ ...f, source: VIP })],
  ["another port", "NoEntry", (f) => ipPacket({ ...f, sourcePort: 1 })],
  ["more bytes than fit", "TooBig", (f) => ipPacket({ ...f, payload: new Uint8Array(MTU - 39) })],
  [
    "segments larger than fit",
    "TooBig",
    (f) => ipPacket({ ...f, payload: new Uint8Array(3000) }),
    { gsoBytes: MTU - 39, gsoSegments: 3 },
  ],
  ["segments that no sender makes", "Length", (f) => ipPacket(f), { gsoBytes: 7, gsoSegments: 15 }],
];

/** Entries for TCP and UDP in both directions, so that nothing but the reason is missing. */
const ENTRIES = [6, 17].flatMap((protocol) => [toPeer({ protocol }), fromPeer({ protocol })]);

function isPassedOn(
  t: ExecutionContext,
  rig: LaneRig,
  origin: Origin,
  frame: Uint8Array,
  reason: PassedOn | undefined,
  context?: SkbContext,
): void {
  const before = ENTRIES.map((entry) => rig.counted(entry));
  const run = rig.run(origin, frame, context);
  t.is(run.verdict, Tcx.Next);
  t.deepEqual(run.reasons, reason === undefined ? [] : [reason]);
  t.is(Buffer.from(run.frame).toString("hex"), Buffer.from(frame).toString("hex"));
  const after = ENTRIES.map((entry) => rig.counted(entry));
  t.deepEqual(after, before);
}

for (const [title, reason, packet, context] of INNER) {
  bpfTest(`${title}: a container's packet is passed on by ${reason}`, (t) => {
    isPassedOn(t, useRig(t, ...ENTRIES), Origin.Container, ethernet(packet(OUT)), reason, context);
  });
  bpfTest(`${title}: a peer's packet is passed on by ${reason}`, (t) => {
    isPassedOn(t, useRig(t, ...ENTRIES), Origin.Underlay, vxlan(packet(IN)), reason, context);
  });
}

const FROM_CONTAINER: [title: string, reason: PassedOn, frame: Uint8Array][] = [
  ["ARP", "NotIpv4", ethernet(ipPacket(OUT), { etherType: 0x0806 })],
  ["a VLAN tag in the frame", "NotIpv4", ethernet(ipPacket(OUT), { etherType: 0x8100 })],
  ["the MAC of another machine", "OtherMac", ethernet(ipPacket(OUT), { destinationMac: "02:00:00:00:00:09" })],
  ["a broadcast", "OtherMac", ethernet(ipPacket(OUT), { destinationMac: "ff:ff:ff:ff:ff:ff" })],
  ["a multicast", "OtherMac", ethernet(ipPacket(OUT), { destinationMac: "01:00:5e:00:00:01" })],
  ["bytes behind the packet", "Length", padded(ethernet(ipPacket(OUT)))],
];
for (const [title, reason, frame] of FROM_CONTAINER) {
  bpfTest(`${title}: a container's frame is passed on by ${reason}`, (t) => {
    isPassedOn(t, useRig(t, ...ENTRIES), Origin.Container, frame, reason);
  });
}

/** The sum of the outer pseudo-header, as the kernel leaves it where a card is to make the checksum. */
function unfinished(): Uint8Array {
  return vxlan(ipPacket(IN), { noChecksum: false, partial: true });
}

const inner = ipPacket(IN);
const FROM_UNDERLAY: [title: string, reason: PassedOn | undefined, frame: Uint8Array][] = [
  ["TCP of the host", undefined, ethernet(ipPacket({ ...IN, source: REMOTE, destination: SELF }))],
  ["another UDP port", undefined, vxlan(inner, { destinationPort: 4790 })],
  ["ARP on the underlay", undefined, ethernet(inner, { etherType: 0x0806 })],
  ["a fragment of the underlay", undefined, vxlan(inner, { fragment: 0x2000 })],
  ["options in the outer header", undefined, ethernet(withIpOptions(vxlan(inner).subarray(14), [1, 1, 1, 0]))],
  ["the MAC of another machine", "OtherMac", broken(vxlan(inner), 0, 2)],
  ["a wrong outer header checksum", "HeaderChecksum", broken(vxlan(inner), 25, 0xaa)],
  ["an outer length above the frame's", "Length", ethernet(changed(vxlan(inner).subarray(14).slice(), 2, 1, 60))],
  ["an outer UDP length above the packet's", "Length", broken(vxlan(inner), 38, 1, 60)],
  ["datagrams that were joined", "Length", vxlan(Uint8Array.from([...inner, ...vxlan(inner).subarray(42), ...inner]))],
  ["no VNI", "VxlanFlags", vxlan(inner, {}, { flags: 0 })],
  ["a reserved bit of VXLAN", "VxlanFlags", vxlan(inner, {}, { flags: 0x48 })],
  ["a reserved byte of VXLAN", "NoEntry", broken(vxlan(inner), 49, 1)],
  ["ARP in VXLAN", "NotIpv4", vxlan(inner, {}, { etherType: 0x0806 })],
  ["another VNI", "NoEntry", vxlan(inner, {}, { vni: VNI + 1 })],
  ["congestion in the outer header", "Congestion", vxlan(inner, { tos: 3 })],
  ["congestion in both headers", "Congestion", vxlan(ipPacket({ ...IN, tos: 3 }), { tos: 3 })],
  ["ECT(1) over ECT(0)", "Congestion", vxlan(ipPacket({ ...IN, tos: 2 }), { tos: 1 })],
  ["another VTEP than the flow's", "OtherVtep", vxlan(inner, { source: "192.0.2.13" })],
  ["another address of ours", "OtherVtep", vxlan(inner, { destination: "192.0.2.14" })],
  ["an outer checksum that a card was to make", "UnfinishedOuter", unfinished()],
];
for (const [title, reason, frame] of FROM_UNDERLAY) {
  bpfTest(
    `${title}: a frame of the underlay is passed on${reason === undefined ? ", not counted" : ` by ${reason}`}`,
    (t) => {
      isPassedOn(t, useRig(t, ...ENTRIES), Origin.Underlay, frame, reason);
    },
  );
}

/** The lane's own state, and what makes it as it was. */
const LANE: [title: string, reason: PassedOn, spoil: (rig: LaneRig) => void, mend: (rig: LaneRig) => void][] = [
  ["the lane is off", "Off", (rig) => rig.control.turn(false), (rig) => rig.control.turn(true)],
  ["the lease is over", "LeaseOver", (rig) => rig.control.lease(1n), (rig) => rig.control.lease(2n ** 62n)],
  ["everything lost ground", "LostGround", (rig) => loseEverything(rig.grounds), again],
  ...(["source", "newDestination", "vip", "from", "to"] as const).map((ground): (typeof LANE)[number] => [
    `the flow's ${ground} lost ground`,
    "LostGround",
    (rig) => lose(rig, ground),
    again,
  ]),
];
const WITH_VIP = [toPeer({ vip: ipv4(VIP) }), fromPeer({ vip: ipv4(VIP) })] as const;

function again(rig: LaneRig): void {
  for (const entry of WITH_VIP) rig.enter(entry);
}
/** What one of the two entries has not, the other has: both lose it. */
function lose(rig: LaneRig, ground: "source" | "newDestination" | "vip" | "from" | "to"): void {
  const [out, back] = WITH_VIP;
  loseGround(rig.grounds, out[ground] || back[ground]);
}

for (const [title, reason, spoil, mend] of LANE) {
  bpfTest(`${title}: packets of both programs are passed on by ${reason}, until that is mended`, (t) => {
    const rig = useRig(t, ...ENTRIES, ...WITH_VIP);
    const ways = [
      [Origin.Container, ethernet(ipPacket(OUT))],
      [Origin.Underlay, vxlan(inner)],
    ] as const;
    for (const [origin, frame] of ways) t.is(rig.run(origin, frame).verdict, Tcx.Redirect);
    spoil(rig);
    for (const [origin, frame] of ways) isPassedOn(t, rig, origin, frame, reason);
    mend(rig);
    for (const [origin, frame] of ways) t.is(rig.run(origin, frame).verdict, Tcx.Redirect);
  });
}

bpfTest("ground that others lose, or that is none, leaves an entry as it is", (t) => {
  const rig = useRig(t, ...WITH_VIP);
  for (let i = 0; i < 100; i++) loseGround(rig.grounds, ipv4("10.200.0.0") + i);
  loseGround(rig.grounds, 0);
  t.is(rig.run(Origin.Container, ethernet(ipPacket(OUT))).verdict, Tcx.Redirect);
  t.is(rig.run(Origin.Underlay, vxlan(inner)).verdict, Tcx.Redirect);
});

bpfTest("an entry that is gone lets nothing pass", (t) => {
  const rig = useRig(t, toPeer());
  rig.leave(toPeer());
  t.deepEqual(rig.run(Origin.Container, ethernet(ipPacket(OUT))).reasons, ["NoEntry"]);
});

bpfTest("every reason is tried here, but for those that no test frame can have", (t) => {
  const tried = new Set([...INNER, ...FROM_CONTAINER, ...FROM_UNDERLAY, ...LANE].map(([, reason]) => reason));
  const rest = (Object.keys(PassedOn) as PassedOn[]).filter((reason) => !tried.has(reason));
  // A tag that the card has taken off and a checksum that is left to a card are no fields of the test's (test/system/express-lane.test.ts
  // has them); the kernel refuses to change a packet only without memory. What goes to a client is
  // tried in clients.test.ts.
  t.deepEqual(rest, ["Vlan", "Failed", "StrayChecksum", "TunnelMark"]);
});
