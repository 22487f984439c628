// The lane's programs on a real kernel, without agents: a Linux vxlan device is the peer, and another one in the node is the slow path,
// which takes what the lane passes on, handshakes among it. All transfers check every byte; the kernel's counters judge checksums.
import type { ExecutionContext } from "ava";
import type { LaneEntry } from "../../src/express/entry.ts";
import { ipv4, macOf } from "../../src/lib/ip.ts";
import {
  ethernet,
  fromPeer,
  LOCAL,
  LOCAL_TOO,
  PEER,
  ports,
  REMOTE,
  SELF,
  toContainer,
  toPeer,
  VIP,
  VNI,
  vxlan,
} from "../express/lane-rig.ts";
import { ACK, ipPacket } from "../fakes/ip-packets.ts";
import { Background, tryRun, waitFor } from "./command.ts";
import { type Driver, Kernel } from "./kernel.ts";
import { program } from "./program.ts";
import { systemTest } from "./system-test.ts";

const PORT = 4789;
const GATEWAY = "169.254.1.1";
const SERVER_PORT = 8080;
const VIP_PORT = 80;
const BYTES = 3_000_000;
/** What passes by the slow path beside the handshake, at most: the lane must carry the rest. */
const MOST_BESIDE = 200_000;

interface Rig {
  kernel: Kernel;
  lane: Driver;
  /** Indexes of the node's links. */
  links: Map<string, number>;
}

/** A node with two containers, and a peer; `one`, `two` and `peer` run a server each. */
async function build(t: ExecutionContext): Promise<Rig> {
  const kernel = await Kernel.create(t, "node", "peer", "one", "two");
  const node = (command: string): Promise<string> => kernel.sh("node", command);
  const peer = (command: string): Promise<string> => kernel.sh("peer", command);
  await node(`ip link add u0 type veth peer name u0 netns ${kernel.netns("peer")}`);
  await node(`ip address add ${SELF}/24 dev u0`);
  await peer(`ip address add ${PEER}/24 dev u0`);
  for (const [container, link, address] of [
    ["one", "c1", LOCAL],
    ["two", "c2", LOCAL_TOO],
  ] as const) {
    const inside = (command: string): Promise<string> => kernel.sh(container, command);
    await node(
      `ip link add ${link} address 02:42:00:00:00:01 mtu 1450 type veth peer name eth0 netns ${kernel.netns(container)}`,
    );
    await inside(`ip link set eth0 address ${macOf(ipv4(address))} mtu 1450 up`);
    await node(`ip link set ${link} up`);
    await inside(`ip address add ${address}/32 dev eth0`);
    await inside(`ip neighbour add ${GATEWAY} lladdr 02:42:00:00:00:01 dev eth0 nud permanent`);
    await inside(`ip route add ${GATEWAY} dev eth0 scope link`);
    await inside(`ip route add default via ${GATEWAY}`);
    await node(`ip neighbour add ${address} lladdr ${macOf(ipv4(address))} dev ${link} nud permanent`);
    await node(`ip route add ${address} dev ${link}`);
  }
  // The slow path's inner frames bear the MACs that the lane's bear.
  const device = (own: string, other: string): string =>
    `type vxlan id ${VNI} local ${own} remote ${other} dstport ${PORT}`;
  await node(`ip link add vx0 address ${macOf(ipv4(LOCAL))} mtu 1450 ${device(SELF, PEER)}`);
  await peer(`ip link add vx0 address ${macOf(ipv4(REMOTE))} mtu 1450 ${device(PEER, SELF)}`);
  for (const link of ["u0", "vx0"]) for (const side of [node, peer]) await side(`ip link set ${link} up`);
  await node(`ip neighbour add ${REMOTE} lladdr ${macOf(ipv4(REMOTE))} dev vx0 nud permanent`);
  await node(`ip route add ${REMOTE} dev vx0`);
  await peer(`ip address add ${REMOTE}/32 dev vx0`);
  await peer(`ip neighbour add ${LOCAL} lladdr ${macOf(ipv4(LOCAL))} dev vx0 nud permanent`);
  await peer(`ip route add ${LOCAL} dev vx0 src ${REMOTE}`);
  await node("sysctl -qw net.ipv4.ip_forward=1 net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.vx0.rp_filter=0");
  for (const place of ["one", "two", "peer"]) {
    const server = new Background(kernel.in(place, ...program("bulk", "serve", SERVER_PORT)));
    t.teardown(() => server.end("SIGKILL"));
    await server.says("listening");
  }
  const facts = JSON.parse(await node("ip -j link")) as { ifname: string; ifindex: number }[];
  const links = new Map(facts.map(({ ifname, ifindex }) => [ifname, ifindex]));
  const lane = kernel.driver("node", "lane-driver");
  await lane.call("containers", links.get("c1"), links.get("c2"));
  await lane.call("underlay", links.get("u0"), PORT);
  return { kernel, lane, links };
}

/** The entries of both directions, of TCP and UDP, of a client's port and a server, which may be behind the VIP. */
function flowsTo(server: "peer" | "two", { links }: Rig, clientPort: number, isByVip: boolean): LaneEntry[] {
  const serverAddress = ipv4(server === "peer" ? REMOTE : LOCAL_TOO);
  const visible = isByVip ? { address: ipv4(VIP), port: VIP_PORT } : { address: serverAddress, port: SERVER_PORT };
  const out = {
    ...{ source: ipv4(LOCAL), destination: visible.address, ports: ports(clientPort, visible.port) },
    ...{ newSource: ipv4(LOCAL), newDestination: serverAddress, newPorts: ports(clientPort, SERVER_PORT) },
    origin: links.get("c1")!,
  };
  const back = {
    ...{ source: serverAddress, destination: ipv4(LOCAL), ports: ports(SERVER_PORT, clientPort) },
    ...{ newSource: visible.address, newDestination: ipv4(LOCAL), newPorts: ports(visible.port, clientPort) },
    link: links.get("c1")!,
  };
  return [6, 17].flatMap((protocol) =>
    server === "peer"
      ? [toPeer({ ...out, protocol, link: links.get("u0")! }), fromPeer({ ...back, protocol })]
      : [
          toContainer({ ...out, protocol, link: links.get("c2")! }),
          toContainer({ ...back, protocol, origin: links.get("c2")! }),
        ],
  );
}

/** Datagrams and segments that the kernel of these namespaces found broken. */
async function checksumErrors(kernel: Kernel, ...places: string[]): Promise<number> {
  let errors = 0;
  for (const place of places) {
    const lines = (await kernel.sh(place, "nstat -asz TcpInCsumErrors UdpInCsumErrors IcmpInCsumErrors")).split("\n");
    for (const line of lines) errors += Number(/InCsumErrors\s+(\d+)/.exec(line)?.[1] ?? 0);
  }
  return errors;
}

interface Transfer {
  server: "peer" | "two";
  clientPort: number;
  isByVip?: boolean;
  offloads: Offloads;
}

/** A transfer in the lane; its answer comes by the lane too. */
async function transfer(t: ExecutionContext, rig: Rig, what: Transfer): Promise<void> {
  const { server, clientPort, isByVip = false, offloads } = what;
  const entries = flowsTo(server, rig, clientPort, isByVip);
  for (const entry of entries) t.true(await rig.lane.call("enter", entry));
  const [host, port] = isByVip ? [VIP, VIP_PORT] : [server === "peer" ? REMOTE : LOCAL_TOO, SERVER_PORT];
  const asked = await tryRun(rig.kernel.in("one", ...program("bulk", "ask", host, port, clientPort, BYTES)));
  t.is(asked.status, 0, asked.stderr);
  const passedOn = JSON.stringify(await passedOnBy(rig));
  const leavesSuperPackets = offloads.segments === "on" && offloads.checksums === "on";
  for (const entry of entries) {
    const { bytes, packets } = (await rig.lane.call("counted", entry)) as { bytes: number; packets: number };
    const isTcp = entry.protocol === 6;
    t.true(
      bytes > (isTcp ? BYTES - MOST_BESIDE : 5000),
      `it carried ${bytes} bytes of protocol ${entry.protocol}, and passed on ${passedOn}`,
    );
    const mean = bytes / packets;
    if (entry.from !== 0) t.true(mean <= entry.mtu, `what comes in is counted as it was on the wire: ${mean}`);
    else if (isTcp && leavesSuperPackets) t.true(mean > 2 * entry.mtu, `super-packets go out whole: ${mean}`);
  }
  t.is(await checksumErrors(rig.kernel, "one", "two", "peer", "node"), 0);
}

/** Why packets were passed on, by the container's program and the underlay's. */
async function passedOnBy({ lane }: Rig): Promise<Record<string, number>[]> {
  return (await lane.call("passedOn")) as Record<string, number>[];
}

/** The slow path translates the handshake as the agent would. */
async function translateHandshakes({ kernel }: Rig): Promise<void> {
  await kernel.sh("node", "nft add table ip lane");
  await kernel.exec("node", "nft", "add chain ip lane to { type nat hook prerouting priority dstnat; }");
  await kernel.sh(
    "node",
    `nft add rule ip lane to ip daddr ${VIP} tcp dport ${VIP_PORT} dnat to ${REMOTE}:${SERVER_PORT}`,
  );
  await kernel.sh("node", "sysctl -qw net.netfilter.nf_conntrack_tcp_be_liberal=1"); // it sees no data
}

/** What is left to network cards, which are not there. */
type Offloads = (typeof OFFLOADS)[number];
const OFFLOADS = ["on", "off"].flatMap((checksums) => ["on", "off"].map((segments) => ({ checksums, segments })));

async function setOffloads({ kernel }: Rig, { checksums, segments }: Offloads): Promise<void> {
  for (const [place, link] of [
    ["one", "eth0"],
    ["two", "eth0"],
    ["node", "u0"],
    ["peer", "u0"],
    ["peer", "vx0"],
  ] as const) {
    // A driver that cannot segment without checksums says so, and goes without.
    await kernel.sh(place, `ethtool -K ${link} tx ${checksums} tso ${segments} gso ${segments}`);
  }
}

systemTest(
  "TCP and UDP pass the lane both ways with a kernel's vxlan device as the peer, whatever is left to cards: plain and by a VIP",
  async (t) => {
    const rig = await build(t);
    await translateHandshakes(rig);
    for (const [i, offloads] of OFFLOADS.entries()) {
      await setOffloads(rig, offloads);
      await transfer(t, rig, { server: "peer", clientPort: 41_000 + 2 * i, offloads });
      await transfer(t, rig, { server: "peer", clientPort: 41_001 + 2 * i, isByVip: true, offloads });
    }
    for (const reasons of await passedOnBy(rig)) t.is(reasons.Failed, undefined);
  },
);

systemTest("frames that come singly from a peer go by the container's link, which may join them", async (t) => {
  const rig = await build(t);
  await rig.kernel.sh("one", "ethtool -K eth0 gro on");
  await rig.kernel.sh("node", "ethtool -K c1 tso off");
  await rig.lane.call("goByLink", true);
  for (const [i, offloads] of OFFLOADS.entries()) {
    await setOffloads(rig, offloads);
    await transfer(t, rig, { server: "peer", clientPort: 46_000 + i, offloads });
  }
  for (const reasons of await passedOnBy(rig)) t.is(reasons.Failed, undefined);
});

systemTest(
  "frames whose outer checksum was left to a card that is not there are passed on, and nothing breaks",
  async (t) => {
    const rig = await build(t);
    await rig.kernel.sh("peer", "ethtool -K vx0 tx off"); // it makes the inner checksums and leaves the outer ones to u0
    for (const entry of flowsTo("peer", rig, 45_000, false)) await rig.lane.call("enter", entry);
    const asked = await tryRun(rig.kernel.in("one", ...program("bulk", "ask", REMOTE, SERVER_PORT, 45_000, BYTES)));
    t.is(asked.status, 0, asked.stderr);
    const [, underlay] = await passedOnBy(rig);
    t.true(underlay!.UnfinishedOuter! > 10, JSON.stringify(underlay));
    t.is(await checksumErrors(rig.kernel, "one", "peer", "node"), 0);
  },
);

systemTest("containers of one node reach each other by the lane", async (t) => {
  const rig = await build(t);
  for (const [i, offloads] of OFFLOADS.entries()) {
    await setOffloads(rig, offloads);
    await transfer(t, rig, { server: "two", clientPort: 42_000 + i, offloads });
  }
});

systemTest(
  "what leaves the lane on a link without offloads has right checksums, outer and inner, for tcpdump",
  async (t) => {
    const rig = await build(t);
    await setOffloads(rig, { checksums: "off", segments: "off" });
    for (const hasOuterChecksum of [false, true]) {
      const clientPort = hasOuterChecksum ? 43_001 : 43_000;
      const file = `/tmp/lane-${process.pid}-${clientPort}.pcap`;
      t.teardown(() => tryRun(["rm", "-f", file]));
      const words = ["-i", "u0", "--immediate-mode", "-U", "-w", file, "-c", "400", "udp", "dst", "port", `${PORT}`];
      const capture = new Background(rig.kernel.in("peer", "tcpdump", ...words, "and", "src", SELF));
      await capture.says("listening on");
      for (const entry of flowsTo("peer", rig, clientPort, false))
        await rig.lane.call("enter", { ...entry, hasOuterChecksum });
      const asked = await tryRun(
        rig.kernel.in("one", ...program("bulk", "ask", REMOTE, SERVER_PORT, clientPort, BYTES)),
      );
      t.is(asked.status, 0, asked.stderr);
      await waitFor(async () => (await capture.ended()) === 0, { what: "the capture to be full" });
      const said = (await tryRun(["tcpdump", "-r", file, "-nn", "-vvv"])).stdout;
      t.notRegex(said, /incorrect|bad (udp )?cksum/);
      t.regex(said, hasOuterChecksum ? /\[udp sum ok\] VXLAN/ : /\[no cksum\] VXLAN/);
      t.true(said.split("(correct)").length > 300, "the inner segments have right checksums");
    }
  },
);

/** Sends a frame through a packet socket; `virtio` is the header in which packet(7) takes what is left to a card. */
async function sendFrame(
  { kernel }: Rig,
  place: string,
  link: string,
  frame: Uint8Array,
  virtio: number[] = [],
): Promise<void> {
  const bytes = Buffer.concat([Buffer.from(Uint16Array.from(virtio).buffer), frame]).toString("hex");
  const lines = [
    "import socket",
    "s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)",
    ...(virtio.length > 0 ? ["s.setsockopt(263, 15, 1)"] : []), // SOL_PACKET, PACKET_VNET_HDR
    `s.bind(("${link}", 0))`,
    `s.send(bytes.fromhex("${bytes}"))`,
  ];
  await kernel.exec(place, "python3", "-c", lines.join("\n"));
}

const macOfLink = async ({ kernel }: Rig, link: string): Promise<string> => {
  const [{ address }] = JSON.parse(await kernel.sh("node", `ip -j link show ${link}`)) as [{ address: string }];
  return address;
};

/** The frame to another MAC, with a tag of VLAN 100 behind the MACs if `isTagged`. */
function addressed(frame: Uint8Array, destinationMac: string, isTagged = false): Uint8Array {
  const destination = Buffer.from(destinationMac.replaceAll(":", ""), "hex");
  const tag = isTagged ? [0x81, 0, 0, 100] : [];
  return Buffer.concat([destination, frame.subarray(6, 12), Buffer.from(tag), frame.subarray(12)]);
}

const packetsOf = async ({ lane }: Rig, entry: LaneEntry): Promise<number> =>
  ((await lane.call("counted", entry)) as { packets: number }).packets;

const OUT = { source: LOCAL, destination: REMOTE, sourcePort: 44_000, destinationPort: SERVER_PORT, flags: ACK };
const BACK = { source: REMOTE, destination: LOCAL, sourcePort: SERVER_PORT, destinationPort: 44_000, flags: ACK };

systemTest("a container's tagged frame is passed on, and so is one for another link of the underlay", async (t) => {
  const rig = await build(t);
  const entries = flowsTo("peer", rig, 44_000, false);
  for (const entry of entries) await rig.lane.call("enter", entry);
  await sendFrame(rig, "one", "eth0", addressed(ethernet(ipPacket(OUT)), await macOfLink(rig, "c1"), true));
  await sendFrame(rig, "peer", "u0", addressed(vxlan(ipPacket(BACK)), await macOfLink(rig, "u0"), true));
  await waitFor(async () => (await passedOnBy(rig)).every(({ Vlan }) => Vlan === 1), {
    what: "both programs to count a tagged frame",
  });
  for (const entry of entries) t.is(await packetsOf(rig, entry), 0);
});

systemTest("a peer's frame whose headers do not lie in one piece is carried", async (t) => {
  const rig = await build(t);
  for (const place of ["node", "peer"]) await rig.kernel.sh(place, "ip link set u0 mtu 9000");
  const entries = flowsTo("peer", rig, 44_000, false).map((entry) => ({ ...entry, mtu: 8950 }));
  for (const entry of entries) await rig.lane.call("enter", entry);
  const datagram = ipPacket({ ...BACK, protocol: "udp", payload: new Uint8Array(6000) });
  const frame = addressed(vxlan(datagram), await macOfLink(rig, "u0"));
  await sendFrame(rig, "peer", "u0", frame, [0, 42, 0, 0, 0]); // the outer headers only are in the first piece
  const back = entries.find(({ from, protocol }) => from !== 0 && protocol === 17)!;
  await waitFor(async () => (await packetsOf(rig, back)) === 1, { what: "the lane to carry the frame" });
  const { NotIpv4: _, ...passedOn } = (await passedOnBy(rig))[1]!; // the links' neighbors may ask for each other (ARP)
  t.deepEqual(passedOn, {});
});

/** Where a checksum goes that a container leaves to a card, and whether the packet may go on. */
const LEFT_TO_CARDS = [
  { title: "into the TCP header", start: 34, offset: 16, isTaken: true },
  { title: "into the TCP header, over the addresses too", start: 26, offset: 24, isTaken: true },
  { title: "into the source port", start: 34, offset: 0, isTaken: true },
  { title: "into the payload", start: 54, offset: 20, isTaken: true },
  { title: "into the end of the destination and the source port", start: 26, offset: 7, isTaken: false },
  { title: "into the destination", start: 26, offset: 6, isTaken: false },
  { title: "into the source", start: 26, offset: 0, isTaken: false },
] as const;

systemTest(
  "a checksum that a container has a card write in front of the TCP header gets the packet dropped",
  async (t) => {
    const rig = await build(t);
    const entries = flowsTo("peer", rig, 44_000, false);
    for (const entry of entries) await rig.lane.call("enter", entry);
    const mac = await macOfLink(rig, "c1");
    const frame = addressed(ethernet(ipPacket({ ...OUT, payload: new Uint8Array(50).fill(9) })), mac);
    const needsChecksum = 1;
    let [taken, dropped] = [0, 0];
    for (const { title, start, offset, isTaken } of LEFT_TO_CARDS) {
      await sendFrame(rig, "one", "eth0", frame, [needsChecksum, 54, 0, start, offset]);
      if (isTaken) taken++;
      else dropped++;
      const counts = async () => ({
        taken: await packetsOf(rig, entries[0]!),
        dropped: (await passedOnBy(rig))[0]!.StrayChecksum ?? 0,
      });
      await waitFor(async () => Object.values(await counts()).reduce((sum, count) => sum + count) === taken + dropped, {
        what: `the lane to have judged a checksum ${title}`,
      });
      t.deepEqual(await counts(), { taken, dropped }, title);
    }
    for (const { Failed } of await passedOnBy(rig)) t.is(Failed, undefined);
  },
);
