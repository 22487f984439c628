// VXLAN on the wire: a capture decoded by tcpdump, and frames as an express lane sends them.
import { join } from "node:path";
import type { StatsView } from "../../src/api/schema.ts";
import { vethName } from "../../src/links/desired.ts";
import { Background, run, waitFor } from "./command.ts";
import { addressOf, namespaceOf, networkOf, runningTasks } from "./listings.ts";
import { program } from "./program.ts";
import { systemTest, useLab } from "./system-test.ts";

const lab = useLab({ prefix: "vxl", nodes: 2 }, async ({ nodes: [node1] }) => {
  await node1!.ctl("network", "create", "web");
  await node1!.ctl(
    ...["service", "create", "--name", "echo", "--replicas", "2", "--network", "web"],
    ...["--", ...program("echo-server", 7)],
  );
});

/** What tcpdump says of a frame with a right checksum, and of how many at least. */
const EXPECTED: [pattern: RegExp, count: number][] = [
  [/Flags \[[^\]]*\], cksum 0x[0-9a-f]{4} \(correct\)/, 6],
  [/\[udp sum ok\]/, 6],
  [/ICMP echo request/, 3],
  [/ICMP echo reply/, 3],
];

systemTest(
  "tcpdump decodes our frames as VXLAN with the network's VNI, and every inner checksum is right",
  async (t) => {
    const [node1, node2] = lab().nodes;
    const { vni } = await networkOf(node1!, "web");
    const remote = addressOf((await runningTasks(node1!, "echo")).find(({ node }) => node === node2!.name)!);
    const file = join(lab().directory, "capture.pcap");
    const tcpdump = ["tcpdump", "-i", "eth0", "--immediate-mode", "-U", "-w", file, "udp", "port", "4789"];
    const capture = new Background(node2!.inside(tcpdump));
    await capture.says("listening on");
    for (const argv of [
      program("ask", "tcp", remote, 7, 3),
      program("ask", "udp", remote, 7, 3),
      ["ping", "-c3", "-i0.2", remote],
      program("ask", "tcp", "echo", 7, 4),
    ]) {
      t.is((await node1!.container("web", argv)).status, 0);
    }
    // Frames of our network only: the management VNI carries probes.
    const captured = async (): Promise<string[]> =>
      (await run(["tcpdump", "-r", file, "-nn", "-vvv"]))
        .split(/\n(?=\d\d:\d\d:\d\d\.)/)
        .filter((frame) => frame.includes(`VXLAN, flags [I] (0x08), vni ${vni}`))
        .map((frame) => frame.slice(frame.indexOf("VXLAN")));
    const isWhole = (inner: string[]): boolean =>
      EXPECTED.every(([pattern, count]) => inner.filter((frame) => pattern.test(frame)).length >= count);
    const inner = await waitFor(async () => [await captured()].find(isWhole), {
      what: "the capture to have TCP, UDP and ICMP, with right checksums",
    });
    await capture.end("SIGINT");
    for (const frame of inner) t.notRegex(frame, /incorrect|bad (udp )?cksum|wrong icmp cksum/);
  },
);

// An express lane at the sender's end alone. A kernel's vxlan device stands for it, which sends what a lane sends: super-packets in one
// frame, inner checksums left to a card, the outer one 0. Its socket wants the VXLAN port, so it is made in a namespace beside the node's.

/** What the lane's link leaves to a card. */
const UNFINISHED = [
  ["super-packets, their checksums partial", { tx: "on", tso: "on", gso: "on" }],
  ["segments whose checksums are partial", { tx: "on", tso: "off", gso: "off" }],
  ["segments that are finished, without an outer checksum", { tx: "off", tso: "off", gso: "off" }],
] as const;

systemTest(
  "frames that a peer's kernel leaves unfinished come under a stream, and it goes on, to and fro",
  async (t) => {
    const [node1, node2] = lab().nodes;
    const { vni } = await networkOf(node1!, "web");
    const tasks = await runningTasks(node1!, "echo");
    const [near, far] = [node1!, node2!].map(({ name }) => tasks.find(({ node }) => node === name)!);
    const beside = await lab().addHost("lane", 60);
    // It speaks with the node's own address, and neither answers for it nor asks with it.
    await beside.exec(["sysctl", "-q", "-w", "net.ipv4.conf.all.arp_ignore=1", "net.ipv4.conf.all.arp_announce=2"]);
    await beside.exec(["ip", "address", "add", `${node1!.address}/32`, "dev", "lo"]);
    const ends = ["id", `${vni}`, "local", node1!.address, "remote", node2!.address, "dstport", "4789"];
    await beside.exec(["ip", "link", "add", "lane0", "type", "vxlan", ...ends, "nolearning", "noudpcsum"]);
    await beside.exec(["ip", "link", "set", "lane0", "netns", node1!.netns]);
    await node1!.exec(["ip", "link", "set", "lane0", "up", "mtu", "1450"]);

    const filter = [
      "dev",
      vethName(addressOf(near!)),
      "ingress",
      "protocol",
      "ip",
      "prio",
      "1",
      "handle",
      "800::1",
      "u32",
    ];
    const isFarTcp = `match ip dst ${addressOf(far!)}/32 match ip protocol 6 0xff match u8 0 0x07 at 33`; // no FIN, SYN, RST
    const enter = () =>
      node1!.exec([
        "tc",
        "filter",
        "add",
        ...filter,
        ...isFarTcp.split(" "),
        ..."action mirred egress redirect dev lane0".split(" "),
      ]);
    const leave = () => node1!.exec(["tc", "filter", "del", ...filter]);
    const laneFrames = async () => Number(await node1!.exec(["cat", "/sys/class/net/lane0/statistics/tx_packets"]));

    const talk = program("talk", addressOf(far!), 7, 300_000);
    const client = new Background(["ip", "netns", "exec", namespaceOf(near!), ...talk]);
    await client.says("talking");
    const answers = () => Number(/.*answers: (\d+)/s.exec(client.output)?.[1]);
    const goesOn = async (where: string) => {
      const before = answers();
      await waitFor(() => answers() >= before + 10, { what: `ten answers ${where}; there were ${before}` });
    };
    for (const [name, features] of UNFINISHED) {
      await beside.exec(["ethtool", "-K", "eth0", ...Object.entries(features).flat()]);
      await goesOn("by the agents");
      const before = await laneFrames();
      await enter();
      await goesOn(`of ${name}`);
      t.true((await laneFrames()) > before, name);
      await leave();
    }
    t.is(await client.end("SIGTERM"), 0, client.output.slice(-1000));
    const { drops } = await node2!.ctlJson<StatsView>("stats");
    t.deepEqual([drops["bad-transport-checksum"], drops["too-big"], drops["bad-super-packet"]], [0, 0, 0]);
  },
);
