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
  mac,
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
function flowsTo(
  server: "peer" | "two",
  { links }: Rig,
  clientPort: number,
  isByVip: boolean,
  byLink = false,
): LaneEntry[] {
  const serverAddress = ipv4(server === "peer" ? REMOTE : LOCAL_TOO);
  const visible = isByVip ? { address: ipv4(VIP), port: VIP_PORT } : { address: serverAddress, port: SERVER_PORT };
  const out = {
    ...{ source: ipv4(LOCAL), destination: visible.address, ports: ports(clientPort, visible.port) },
    ...{ newSource: ipv4(LOCAL), newDestination: serverAddress, newPorts: ports(clientPort, SERVER_PORT) },
    ...{ origin: links.get("c1")!, byLink },
  };
  const back = {
    ...{ source: serverAddress, destination: ipv4(LOCAL), ports: ports(SERVER_PORT, clientPort) },
    ...{ newSource: visible.address, newDestination: ipv4(LOCAL), newPorts: ports(visible.port, clientPort) },
    ...{ link: links.get("c1")!, destinationMac: mac(macOf(ipv4(LOCAL))), byLink },
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
  byLink?: boolean;
  offloads: Offloads;
}

/** A transfer in the lane; its answer comes by the lane too. */
async function transfer(t: ExecutionContext, rig: Rig, what: Transfer): Promise<void> {
  const { server, clientPort, isByVip = false, byLink = false, offloads } = what;
  const entries = flowsTo(server, rig, clientPort, isByVip, byLink);
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

systemTest("containers of one node reach each other by the lane, into their ends and by their links", async (t) => {
  const rig = await build(t);
  for (const [i, offloads] of OFFLOADS.entries()) {
    await setOffloads(rig, offloads);
    await transfer(t, rig, { server: "two", clientPort: 42_000 + 2 * i, offloads });
    await transfer(t, rig, { server: "two", clientPort: 42_001 + 2 * i, byLink: true, offloads });
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

systemTest("a container's tagged frame is passed on, and so is one for another link of the underlay", async (t) => {
  const rig = await build(t);
  for (const entry of flowsTo("peer", rig, 44_000, false)) await rig.lane.call("enter", entry);
  const { kernel } = rig;
  const send = (place: string, link: string, frame: string): Promise<unknown> =>
    kernel.exec(
      place,
      "/usr/bin/python3",
      "-c",
      `import socket; s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW); s.bind(("${link}", 0)); s.send(bytes.fromhex("${frame}"))`,
    );
  const out = ipPacket({
    source: LOCAL,
    destination: REMOTE,
    sourcePort: 44_000,
    destinationPort: SERVER_PORT,
    flags: ACK,
  });
  const back = ipPacket({
    source: REMOTE,
    destination: LOCAL,
    sourcePort: SERVER_PORT,
    destinationPort: 44_000,
    flags: ACK,
  });
  const tagged = (bytes: Uint8Array, to: string): string =>
    `${to}${"020000000009"}81000064${Buffer.from(bytes).toString("hex", 12)}`;
  const macOfLink = async (link: string): Promise<string> =>
    (JSON.parse(await kernel.sh("node", `ip -j link show ${link}`)) as [{ address: string }])[0].address.replaceAll(
      ":",
      "",
    );
  await send("one", "eth0", tagged(ethernet(out), await macOfLink("c1")));
  await send("peer", "u0", tagged(vxlan(back), await macOfLink("u0")));
  const [container, underlay] = await waitFor(
    async () => {
      const both = await passedOnBy(rig);
      return both.every(({ Vlan }) => Vlan === 1) && both;
    },
    { what: "both programs to count a tagged frame" },
  );
  t.is(container!.Vlan, 1);
  t.is(underlay!.Vlan, 1);
  for (const entry of flowsTo("peer", rig, 44_000, false)) {
    t.is(((await rig.lane.call("counted", entry)) as { packets: number }).packets, 0);
  }
});
