// What the lane's programs make of packets that they carry: every byte that leaves is compared with a packet that was built anew.
import type { ExecutionContext } from "ava";
import type { LaneEntry } from "../../src/express/entry.ts";
import { Origin } from "../../src/express/layout.ts";
import { ipv4 } from "../../src/lib/ip.ts";
import { Tcx } from "../../src/linux/bpf-abi.ts";
import { RunFlag, runProgram } from "../../src/linux/bpf-program.ts";
import { ACK, type Fields, ipPacket, PSH } from "../fakes/ip-packets.ts";
import { bpfTest, takesCardsSum, useRig } from "./bpf-test.ts";
import {
  CLIENT_PORT,
  ethernet,
  expectedFrame,
  fromPeer,
  HOST_MAC,
  LOCAL,
  LOCAL_TOO,
  MACS,
  ports,
  REMOTE,
  SERVER_PORT,
  toContainer,
  toPeer,
  VIP,
  VNI,
  vxlan,
} from "./lane-rig.ts";

const payload = (bytes: number): Uint8Array => new Uint8Array(bytes).map((_, i) => i * 7 + 3);

interface Case {
  title: string;
  protocol: "tcp" | "udp";
  /** What changes: the VIP in the place of an endpoint, ports, both or nothing. */
  addresses: boolean;
  ports: boolean;
}
const CASES: readonly Case[] = (["tcp", "udp"] as const).flatMap((protocol) =>
  [
    { title: "as it is", addresses: false, ports: false },
    { title: "with other addresses", addresses: true, ports: false },
    { title: "with other ports", addresses: false, ports: true },
    { title: "with other addresses and ports", addresses: true, ports: true },
  ].map((what) => ({ ...what, protocol })),
);
const PROTOCOLS = { tcp: 6, udp: 17 } as const;
/** Lengths of payloads: none, odd ones, the largest that fits. */
const LENGTHS = [0, 1, 13, 512, 1398];

/** The client's packet toward a server, as it comes and as it goes. */
function toward(server: string, { protocol, addresses, ports: changes }: Case): [before: Fields, after: Fields] {
  const common = { protocol, source: LOCAL, sourcePort: CLIENT_PORT, flags: ACK | PSH, ttl: 61, id: 4711, tos: 0xb8 };
  const before = { destination: addresses ? VIP : server, destinationPort: changes ? 80 : SERVER_PORT };
  return [
    { ...common, ...before },
    { ...common, destination: server, destinationPort: SERVER_PORT },
  ];
}

/** The server's answer, as it comes and as it goes. */
function back(server: string, { protocol, addresses, ports: changes }: Case): [before: Fields, after: Fields] {
  const common = { protocol, destination: LOCAL, destinationPort: CLIENT_PORT, flags: ACK, ttl: 2, id: 9, tos: 0x02 };
  const after = { source: addresses ? VIP : server, sourcePort: changes ? 80 : SERVER_PORT };
  return [
    { ...common, source: server, sourcePort: SERVER_PORT },
    { ...common, ...after },
  ];
}

function rewriting([before, after]: [Fields, Fields]): Partial<LaneEntry> {
  return {
    protocol: PROTOCOLS[before.protocol as "tcp" | "udp"],
    source: ipv4(before.source),
    destination: ipv4(before.destination),
    ports: ports(before.sourcePort!, before.destinationPort!),
    newSource: ipv4(after.source),
    newDestination: ipv4(after.destination),
    newPorts: ports(after.sourcePort!, after.destinationPort!),
  };
}

/** Both packets with payloads of each length. */
function* lengthsOf([before, after]: [Fields, Fields]): Generator<[Uint8Array, Uint8Array]> {
  for (const length of LENGTHS) {
    yield [ipPacket({ ...before, payload: payload(length) }), ipPacket({ ...after, payload: payload(length) })];
  }
}

function sameBytes(t: ExecutionContext, actual: Uint8Array, expected: Uint8Array): void {
  t.is(Buffer.from(actual).toString("hex"), Buffer.from(expected).toString("hex"));
}

for (const what of CASES) {
  for (const hasOuterChecksum of [false, true]) {
    const checksum = hasOuterChecksum ? "with" : "without";
    bpfTest(`${what.protocol} goes to a peer ${what.title}, ${checksum} an outer checksum`, (t) => {
      const way = toward(REMOTE, what);
      const rig = useRig(t, toPeer({ ...rewriting(way), hasOuterChecksum }));
      for (const [before, after] of lengthsOf(way)) {
        const run = rig.run(Origin.Container, ethernet(before));
        t.is(run.verdict, Tcx.Redirect);
        t.deepEqual(run.reasons, []);
        sameBytes(t, run.frame, expectedFrame(after, { noChecksum: !hasOuterChecksum }));
      }
    });
  }

  for (const byLink of [false, true]) {
    const way = byLink ? "by its link" : "into its end";
    bpfTest(`${what.protocol} from a peer goes to a container ${way} ${what.title}`, (t) => {
      const answer = back(REMOTE, what);
      const rig = useRig(t, fromPeer(rewriting(answer)));
      rig.control.goByLink(byLink);
      for (const [before, after] of lengthsOf(answer)) {
        for (const outer of [{}, { noChecksum: false }]) {
          const run = rig.run(Origin.Underlay, vxlan(before, outer));
          t.is(run.verdict, Tcx.Redirect, run.reasons.join());
          t.deepEqual(run.reasons, []);
          const macs = { destinationMac: MACS.sourceMac, sourceMac: HOST_MAC };
          sameBytes(t, run.frame, ethernet(after, macs));
        }
      }
    });
  }

  bpfTest(`${what.protocol} goes to a container of this node ${what.title}`, (t) => {
    const way = toward(LOCAL_TOO, what);
    const rig = useRig(t, toContainer(rewriting(way)));
    for (const [before, after] of lengthsOf(way)) {
      const run = rig.run(Origin.Container, ethernet(before));
      t.is(run.verdict, Tcx.Redirect);
      const macs = { destinationMac: "02:42:0a:c0:20:0b", sourceMac: HOST_MAC };
      sameBytes(t, run.frame, ethernet(after, macs));
    }
  });
}

bpfTest("the outer header takes over the inner one's ECN, and nothing else of its TOS", (t) => {
  for (const hasOuterChecksum of [false, true]) {
    const rig = useRig(t, toPeer({ hasOuterChecksum }));
    for (let tos = 0; tos < 256; tos += 0x2b) {
      const packet = ipPacket({ ...toward(REMOTE, CASES[0]!)[0], tos, payload: payload(9) });
      const run = rig.run(Origin.Container, ethernet(packet));
      sameBytes(t, run.frame, expectedFrame(packet, { noChecksum: !hasOuterChecksum, tos: tos & 3 }));
    }
  }
});

bpfTest("an inner header keeps its TOS, whatever the outer one's is short of congestion", (t) => {
  const rig = useRig(t, fromPeer());
  const answer = back(REMOTE, CASES[0]!)[0];
  for (const [outer, inner] of [
    ...[0, 1, 2, 3].map((inner) => [0xb8, inner] as const),
    ...[0, 1, 2, 3].map((inner) => [2, inner] as const),
    ...[0, 1, 3].map((inner) => [1, inner] as const),
  ]) {
    const packet = ipPacket({ ...answer, tos: 0x88 | inner });
    const run = rig.run(Origin.Underlay, vxlan(packet, { tos: outer }));
    t.is(run.verdict, Tcx.Redirect, `${outer} ${inner}`);
    sameBytes(t, run.frame.subarray(14), packet);
  }
});

bpfTest("an outer UDP checksum that comes out as 0 is written as 0xffff", (t) => {
  const packet = ipPacket({ ...toward(REMOTE, CASES[4]!)[0], payload: payload(3) });
  const rig = useRig(t);
  const checksumFrom = (sourcePort: number): number => {
    rig.enter(toPeer({ hasOuterChecksum: true, protocol: 17, sourcePort }));
    const { frame } = rig.run(Origin.Container, ethernet(packet));
    sameBytes(t, frame, expectedFrame(packet, { noChecksum: false, sourcePort }));
    return (frame[40]! << 8) | frame[41]!;
  };
  const first = 50_000;
  const sum = first + checksumFrom(first); // what is missing to all ones, put into the source port
  t.is(checksumFrom(sum > 0xffff ? sum - 0xffff : sum), 0xffff);
});

bpfTest("a super-packet goes to a container of this node whole, its segments as long as they were", (t) => {
  const way = toward(LOCAL_TOO, CASES[3]!);
  const rig = useRig(t, toContainer(rewriting(way)));
  const packet = ethernet(ipPacket({ ...way[0], payload: payload(3000) }));
  const run = rig.run(Origin.Container, packet, { gsoBytes: 1398, gsoSegments: 3 });
  t.is(run.verdict, Tcx.Redirect);
  t.is(run.context.gsoBytes, 1398);
  sameBytes(t, run.frame.subarray(14), ipPacket({ ...way[1], payload: payload(3000) }));
});

bpfTest("a packet that the kernel refuses to change is dropped, and counted", (t) => {
  // A super-packet of a run has no type, and only one of TCP gets another header; test/system/express-lane.test.ts has real ones.
  const gso = { gsoBytes: 1398, gsoSegments: 3 };
  const rig = useRig(t, toPeer(), fromPeer());
  const out = ipPacket({ ...toward(REMOTE, CASES[0]!)[0], payload: payload(3000) });
  const answer = ipPacket({ ...back(REMOTE, CASES[0]!)[0], payload: payload(3000) });
  for (const run of [rig.run(Origin.Container, ethernet(out), gso), rig.run(Origin.Underlay, vxlan(answer), gso)]) {
    t.is(run.verdict, Tcx.Drop);
    t.deepEqual(run.reasons, ["Failed"]);
  }
});

bpfTest("frames of two networks and of two links do not mix", (t) => {
  const rig = useRig(t, fromPeer(), toPeer());
  const answer = ipPacket(back(REMOTE, CASES[0]!)[0]);
  t.is(rig.run(Origin.Underlay, vxlan(answer)).verdict, Tcx.Redirect);
  t.deepEqual(rig.run(Origin.Underlay, vxlan(answer, {}, { vni: VNI + 1 })).reasons, ["NoEntry"]);
  t.deepEqual(rig.run(Origin.Container, ethernet(answer)).reasons, ["NoEntry"]); // a container that forges a peer's
  t.deepEqual(rig.run(Origin.Underlay, vxlan(ipPacket(toward(REMOTE, CASES[0]!)[0]))).reasons, ["NoEntry"]);
});

bpfTest("the sum that a network card has made of a frame stays right for what the container gets", (t) => {
  if (!takesCardsSum()) {
    t.log("before Linux 6.11 no program runs on a frame with such a sum");
    t.pass();
    return;
  }
  for (const what of CASES) {
    const answer = back(REMOTE, what);
    const way = toward(LOCAL_TOO, what);
    const rig = useRig(t, fromPeer(rewriting(answer)), toContainer(rewriting(way)));
    for (const [origin, frame] of [
      [Origin.Underlay, vxlan(ipPacket({ ...answer[0], payload: payload(101) }))],
      [Origin.Underlay, vxlan(ipPacket({ ...answer[0], payload: payload(101) }), { noChecksum: false })],
      [Origin.Container, ethernet(ipPacket({ ...way[0], payload: payload(101) }))],
    ] as const) {
      t.is(runProgram(rig.program(origin), frame, {}, 1, RunFlag.ChecksumComplete).verdict, Tcx.Redirect);
    }
  }
});
