// VXLAN on the wire: a capture decoded by tcpdump.
import { join } from "node:path";
import { Background, run, waitFor } from "./command.ts";
import { addressOf, networkOf, runningTasks } from "./listings.ts";
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
