// Flows of clients outside, by a published port, in the lane: what the programs make of their packets, and for which reasons they lead them
// to the agent. Every byte that leaves is compared with a packet that was built anew.
import type { ExecutionContext } from "ava";
import { type EntranceRow, Entrances } from "../../src/express/entrances.ts";
import type { LaneEntry } from "../../src/express/entry.ts";
import { loseEverything, loseGround } from "../../src/express/grounds.ts";
import { Entrance, Origin, type PassedOn } from "../../src/express/layout.ts";
import { ipv4, OUTSIDE } from "../../src/lib/ip.ts";
import { Tcx } from "../../src/linux/bpf-abi.ts";
import { RunFlag, runProgram, type SkbContext } from "../../src/linux/bpf-program.ts";
import { ACK, FIN, type Fields, ipPacket, PSH, RST, SYN } from "../fakes/ip-packets.ts";
import { bpfTest, takesCardsSum, useRig } from "./bpf-test.ts";
import {
  ethernet,
  expectedFrame,
  fromPeer,
  HOST_MAC,
  type LaneRig,
  LOCAL,
  LOOPBACK,
  MTU,
  PEER,
  ports,
  REMOTE,
  SELF,
  SERVER_PORT,
  toContainer,
  toPeer,
  vxlan,
} from "./lane-rig.ts";

const CLIENT = "203.0.113.9";
const OTHER_CLIENT = "203.0.113.10";
const CLIENT_PORT = 51_000;
const PUBLISHED = 80;
/** The mesh VIP that the flows were balanced from. */
const MESH_VIP = "10.192.0.100";
const PROTOCOLS = { tcp: 6, udp: 17 } as const;
type Protocol = keyof typeof PROTOCOLS;
const LENGTHS = [0, 1, 13, 512, 1398];
/** The MACs in a frame from the client to a task behind the peer: by their addresses. */
const TASK_MACS = { destinationMac: "02:42:0a:c0:20:14", sourceMac: "02:42:cb:00:71:09" };

const led = (port: number, protocol: number): EntranceRow => {
  return { address: 0, port, protocol, kind: Entrance.Led, link: 0 };
};
const ENTRANCES: EntranceRow[] = [
  { address: ipv4(SELF), port: 0, protocol: 0, kind: Entrance.OwnAddress, link: 0 },
  led(PUBLISHED, PROTOCOLS.tcp),
  led(PUBLISHED, PROTOCOLS.udp),
];

const payload = (bytes: number): Uint8Array => new Uint8Array(bytes).map((_, i) => i * 7 + 3);
const ASK: Fields = {
  ...{ source: CLIENT, sourcePort: CLIENT_PORT, destination: SELF, destinationPort: PUBLISHED },
  ...{ flags: ACK | PSH, ttl: 61, id: 4711, tos: 0xb8 },
};
const ANSWER: Fields = {
  ...{ source: REMOTE, sourcePort: SERVER_PORT, destination: CLIENT, destinationPort: CLIENT_PORT },
  ...{ flags: ACK, ttl: 64, id: 9, tos: 0x02 },
};
/** What the client's packet and the task's become. */
const asked = (server: string): Partial<Fields> => ({ destination: server, destinationPort: SERVER_PORT });
const answered: Partial<Fields> = { source: SELF, sourcePort: PUBLISHED, ttl: ANSWER.ttl! - 1 };

function askTo(server: string, protocol: Protocol): Partial<LaneEntry> {
  return {
    ...{ fromClient: true, origin: LOOPBACK, protocol: PROTOCOLS[protocol], vip: ipv4(MESH_VIP) },
    ...{ source: ipv4(CLIENT), destination: ipv4(SELF), ports: ports(CLIENT_PORT, PUBLISHED) },
    ...{ newSource: ipv4(CLIENT), newDestination: ipv4(server), newPorts: ports(CLIENT_PORT, SERVER_PORT) },
  };
}

function answerFrom(server: string, protocol: Protocol): Partial<LaneEntry> {
  return {
    ...{ toClient: true, protocol: PROTOCOLS[protocol], vip: ipv4(MESH_VIP) },
    ...{ source: ipv4(server), destination: ipv4(CLIENT), ports: ports(SERVER_PORT, CLIENT_PORT) },
    ...{ newSource: ipv4(SELF), newDestination: ipv4(CLIENT), newPorts: ports(PUBLISHED, CLIENT_PORT) },
  };
}

const ENTRIES: readonly LaneEntry[] = (["tcp", "udp"] as const).flatMap((protocol) => [
  toPeer(askTo(REMOTE, protocol)),
  fromPeer(answerFrom(REMOTE, protocol)),
]);

/** The program has led the beginnings of the connections; it leads no segment of another one. */
function clientRig(t: ExecutionContext, ...entries: LaneEntry[]): LaneRig {
  const rig = useRig(t, ...entries);
  rig.control.leadTo(LOOPBACK);
  new Entrances(rig.maps.entrances).put(ENTRANCES);
  for (const other of [{}, { source: OTHER_CLIENT }, { sourcePort: CLIENT_PORT + 1 }])
    rig.run(Origin.Node, ethernet(ipPacket({ ...ASK, ...other, flags: SYN })));
  return rig;
}

function sameBytes(t: ExecutionContext, actual: Uint8Array, expected: Uint8Array): void {
  t.is(Buffer.from(actual).toString("hex"), Buffer.from(expected).toString("hex"));
}

for (const protocol of ["tcp", "udp"] as const) {
  bpfTest(`${protocol} of a client goes to the peer of its task, and is counted`, (t) => {
    const entry = toPeer(askTo(REMOTE, protocol));
    const rig = clientRig(t, entry);
    for (const length of LENGTHS) {
      const fields = { ...ASK, protocol, payload: payload(length) };
      const run = rig.run(Origin.Node, ethernet(ipPacket(fields)));
      t.deepEqual([run.verdict, run.reasons], [Tcx.Redirect, []]);
      sameBytes(t, run.frame, expectedFrame(ipPacket({ ...fields, ...asked(REMOTE) }), {}, {}, TASK_MACS));
    }
    const headers = protocol === "tcp" ? 40 : 28;
    const { packets, bytes } = rig.counted(entry);
    t.deepEqual([packets, bytes], [LENGTHS.length, LENGTHS.reduce((sum, length) => sum + headers + length, 0)]);
  });

  bpfTest(`${protocol} of a client goes to its task on this node`, (t) => {
    const rig = clientRig(t, toContainer(askTo(LOCAL, protocol)));
    for (const length of LENGTHS) {
      const fields = { ...ASK, protocol, payload: payload(length) };
      const run = rig.run(Origin.Node, ethernet(ipPacket(fields)));
      t.deepEqual([run.verdict, run.reasons], [Tcx.Redirect, []]);
      const macs = { destinationMac: "02:42:0a:c0:20:0a", sourceMac: HOST_MAC };
      sameBytes(t, run.frame, ethernet(ipPacket({ ...fields, ...asked(LOCAL) }), macs));
    }
  });

  bpfTest(`${protocol} of a task behind a peer goes to its client, its TTL as the kernel would forward it`, (t) => {
    const rig = clientRig(t, fromPeer(answerFrom(REMOTE, protocol)));
    for (const length of LENGTHS) {
      const fields = { ...ANSWER, protocol, payload: payload(length) };
      for (const outer of [{}, { noChecksum: false }]) {
        const run = rig.run(Origin.Underlay, vxlan(ipPacket(fields), outer));
        t.deepEqual([run.verdict, run.reasons], [Tcx.Redirect, []]);
        sameBytes(t, run.frame.subarray(14), ipPacket({ ...fields, ...answered }));
      }
    }
  });

  bpfTest(`${protocol} of a task on this node goes to its client`, (t) => {
    const rig = clientRig(t, toContainer({ origin: LOOPBACK, ...answerFrom(LOCAL, protocol) }));
    for (const length of LENGTHS) {
      const fields = { ...ANSWER, source: LOCAL, protocol, payload: payload(length) };
      const run = rig.run(Origin.Container, ethernet(ipPacket(fields)));
      t.deepEqual([run.verdict, run.reasons], [Tcx.Redirect, []]);
      sameBytes(t, run.frame.subarray(14), ipPacket({ ...fields, ...answered }));
    }
  });
}

bpfTest("every TTL above 1 is one less for the client, and the header's checksum right", (t) => {
  const rig = clientRig(t, fromPeer(answerFrom(REMOTE, "tcp")));
  for (let ttl = 2; ttl < 256; ttl++) {
    const run = rig.run(Origin.Underlay, vxlan(ipPacket({ ...ANSWER, ttl, id: ttl * 257 })));
    sameBytes(t, run.frame.subarray(14), ipPacket({ ...ANSWER, ...answered, ttl: ttl - 1, id: ttl * 257 }));
  }
});

/** A frame as short as the wire allows: what is behind the packet is not the packet's. */
const padded = (packet: Uint8Array): Uint8Array => {
  const frame = new Uint8Array(60).fill(0xee);
  frame.set(ethernet(packet));
  return frame;
};

bpfTest("the padding of a short frame is no part of the packet: in the lane, and for the agent", (t) => {
  const rig = clientRig(t, toPeer(askTo(REMOTE, "tcp")));
  const run = rig.run(Origin.Node, padded(ipPacket(ASK)));
  t.deepEqual([run.verdict, run.reasons], [Tcx.Redirect, []]);
  sameBytes(t, run.frame, expectedFrame(ipPacket({ ...ASK, ...asked(REMOTE) }), {}, {}, TASK_MACS));
  const syn = rig.run(Origin.Node, padded(ipPacket({ ...ASK, flags: SYN })));
  t.deepEqual([syn.verdict, syn.reasons], [Tcx.Redirect, ["TcpFlags"]]);
  sameBytes(t, syn.frame, ethernet(ipPacket({ ...ASK, flags: SYN })));
});

/** `frame` is led as it is, counted by this reason, and no entry counts it. */
function isLed(t: ExecutionContext, rig: LaneRig, frame: Uint8Array, reason: PassedOn, context?: SkbContext): void {
  const before = ENTRIES.map((entry) => rig.counted(entry));
  const run = rig.run(Origin.Node, frame, context);
  t.deepEqual([run.verdict, run.reasons], [Tcx.Redirect, [reason]]);
  sameBytes(t, run.frame, frame);
  const after = ENTRIES.map((entry) => rig.counted(entry));
  t.deepEqual(after, before);
}

function broken(packet: Uint8Array, at: number, value: number): Uint8Array {
  const copy = packet.slice();
  copy[at] = value;
  return copy;
}

const BIG = { payload: payload(100) };
const GSO = { gsoBytes: 50, gsoSegments: 2 };
const LED: [title: string, reason: PassedOn, packet: Uint8Array, context?: SkbContext][] = [
  ["a SYN", "TcpFlags", ipPacket({ ...ASK, flags: SYN })],
  ["a FIN", "TcpFlags", ipPacket({ ...ASK, flags: FIN | ACK })],
  ["a RST", "TcpFlags", ipPacket({ ...ASK, flags: RST })],
  ["a TTL of 1", "Ttl", ipPacket({ ...ASK, ttl: 1 })],
  ["a wrong header checksum", "HeaderChecksum", broken(ipPacket(ASK), 11, 0xaa)],
  ["bytes behind a packet that no frame pads", "Length", Uint8Array.from([...ipPacket({ ...ASK, ...BIG }), 0])],
  ["a TCP header of 16 bytes", "Length", broken(ipPacket(ASK), 32, 0x40)],
  ["a datagram without a checksum", "NoUdpChecksum", ipPacket({ ...ASK, protocol: "udp", noChecksum: true })],
  ["joined datagrams", "UdpSuperPacket", ipPacket({ ...ASK, ...BIG, protocol: "udp" }), GSO],
  ["another client", "NoEntry", ipPacket({ ...ASK, source: OTHER_CLIENT })],
  ["another port of the client", "NoEntry", ipPacket({ ...ASK, sourcePort: CLIENT_PORT + 1 })],
  ["more bytes than fit", "TooBig", ipPacket({ ...ASK, payload: payload(MTU - 39) })],
  [
    "segments larger than fit",
    "TooBig",
    ipPacket({ ...ASK, payload: payload(3000) }),
    { gsoBytes: MTU - 39, gsoSegments: 3 },
  ],
  [
    "segments that no sender makes",
    "Length",
    ipPacket({ ...ASK, payload: payload(3000) }),
    { gsoBytes: 7, gsoSegments: 430 },
  ],
];
for (const [title, reason, packet, context] of LED) {
  bpfTest(`${title}: a client's packet is led to the agent by ${reason}`, (t) => {
    isLed(t, clientRig(t, ...ENTRIES), ethernet(packet), reason, context);
  });
}

bpfTest("a client's packet that comes by another link than the one that leads to it is the agent's", (t) => {
  const elsewhere = toPeer({ ...askTo(REMOTE, "tcp"), origin: LOOPBACK + 1 });
  const rig = clientRig(t, elsewhere);
  const run = rig.run(Origin.Node, ethernet(ipPacket(ASK)));
  t.deepEqual([run.verdict, run.reasons], [Tcx.Redirect, ["NoEntry"]]);
});

const GROUNDS: [title: string, address: number][] = [
  ["client", ipv4(CLIENT)],
  ["task", ipv4(REMOTE)],
  ["mesh VIP", ipv4(MESH_VIP)],
  ["task's node", ipv4(PEER)],
  ["way to clients", OUTSIDE],
];
for (const [title, address] of GROUNDS) {
  bpfTest(`the ${title} is lost: both directions are the agent's, until the entries are written anew`, (t) => {
    const rig = clientRig(t, ...ENTRIES);
    const [ask, answer] = [ethernet(ipPacket(ASK)), vxlan(ipPacket(ANSWER))];
    loseGround(rig.grounds, address);
    isLed(t, rig, ask, "LostGround");
    const run = rig.run(Origin.Underlay, answer);
    t.deepEqual([run.verdict, run.reasons], [Tcx.Next, ["LostGround"]]);
    for (const entry of ENTRIES) rig.enter(entry);
    t.deepEqual(rig.run(Origin.Node, ask).reasons, []);
    t.deepEqual(rig.run(Origin.Underlay, answer).reasons, []);
  });
}

bpfTest("the way to clients is lost: flows between containers stay", (t) => {
  const rig = clientRig(t, toPeer(), fromPeer());
  loseGround(rig.grounds, OUTSIDE);
  const flow = { source: LOCAL, sourcePort: 40_000, destination: REMOTE, destinationPort: SERVER_PORT, flags: ACK };
  t.deepEqual(rig.run(Origin.Container, ethernet(ipPacket(flow))).reasons, []);
  loseEverything(rig.grounds);
  t.deepEqual(rig.run(Origin.Container, ethernet(ipPacket(flow))).reasons, ["LostGround"]);
});

const LEFT: [title: string, reason: PassedOn | undefined, spoil: (rig: LaneRig) => void][] = [
  ["the lane is off", "Off", (rig) => rig.control.turn(false)],
  ["its lease is over", "LeaseOver", (rig) => rig.control.lease(1n)],
  ["the port is published no more", undefined, (rig) => put(rig, ENTRANCES.slice(0, 1))],
  ["the address is the node's no more", undefined, (rig) => put(rig, ENTRANCES.slice(1))],
  ["a process of the node has the port", undefined, (rig) => put(rig, [...ENTRANCES, held(SELF)])],
];
const held = (address: string): EntranceRow => {
  return { ...led(PUBLISHED, PROTOCOLS.tcp), address: ipv4(address), kind: Entrance.Held };
};
function put(rig: LaneRig, rows: EntranceRow[]): void {
  new Entrances(rig.maps.entrances).put(rows);
}
for (const [title, reason, spoil] of LEFT) {
  bpfTest(`${title}: what a client sends is left to the stack, though the entry is there`, (t) => {
    const rig = clientRig(t, ...ENTRIES);
    const frame = ethernet(ipPacket(ASK));
    t.is(rig.run(Origin.Node, frame).verdict, Tcx.Redirect);
    spoil(rig);
    const run = rig.run(Origin.Node, frame);
    t.deepEqual([run.verdict, run.reasons], [Tcx.Next, reason === undefined ? [] : [reason]]);
    sameBytes(t, run.frame, frame);
  });
}

bpfTest(
  "a super-packet with a tunnel's mark does not go to a client whose card heeds it; a plain segment does",
  (t) => {
    const rig = clientRig(t, fromPeer({ ...answerFrom(REMOTE, "tcp"), heedsTunnelMark: true }));
    t.deepEqual(rig.run(Origin.Underlay, vxlan(ipPacket(ANSWER))).reasons, []);
    const frame = vxlan(ipPacket({ ...ANSWER, payload: payload(3000) }));
    const run = rig.run(Origin.Underlay, frame, { gsoBytes: 1398, gsoSegments: 3 });
    t.deepEqual([run.verdict, run.reasons], [Tcx.Next, ["TunnelMark"]]);
    sameBytes(t, run.frame, frame);
  },
);

bpfTest("a super-packet of a client goes to its task on this node whole", (t) => {
  const rig = clientRig(t, toContainer(askTo(LOCAL, "tcp")));
  const fields = { ...ASK, payload: payload(3000) };
  const run = rig.run(Origin.Node, ethernet(ipPacket(fields)), { gsoBytes: 1398, gsoSegments: 3 });
  t.deepEqual([run.verdict, run.context.gsoBytes], [Tcx.Redirect, 1398]);
  sameBytes(t, run.frame.subarray(14), ipPacket({ ...fields, ...asked(LOCAL) }));
});

bpfTest("the sum that a network card has made of a frame stays right for the client, and for its task", (t) => {
  if (!takesCardsSum()) {
    t.log("before Linux 6.11 no program runs on a frame with such a sum");
    t.pass();
    return;
  }
  for (const protocol of ["tcp", "udp"] as const) {
    const [ask, answer] = [ASK, ANSWER].map((fields) => ipPacket({ ...fields, protocol, payload: payload(101) }));
    const rig = clientRig(t, toContainer(askTo(LOCAL, protocol)), fromPeer(answerFrom(REMOTE, protocol)));
    for (const [origin, frame] of [
      [Origin.Node, ethernet(ask!)],
      [Origin.Underlay, vxlan(answer!)],
      [Origin.Underlay, vxlan(answer!, { noChecksum: false })],
    ] as const) {
      t.is(runProgram(rig.program(origin), frame, {}, 1, RunFlag.ChecksumComplete).verdict, Tcx.Redirect);
    }
    rig.leave(toContainer(askTo(LOCAL, protocol)));
    rig.enter(toContainer({ origin: LOOPBACK, ...answerFrom(LOCAL, protocol) }));
    const own = ethernet(ipPacket({ ...ANSWER, source: LOCAL, protocol, payload: payload(101) }));
    const run = runProgram(rig.program(Origin.Container), own, {}, 1, RunFlag.ChecksumComplete);
    t.is(run.verdict, Tcx.Redirect);
  }
});
