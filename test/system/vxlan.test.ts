// VXLAN on the wire: a capture decoded by tcpdump.
import { join } from "node:path";
import { Background, run } from "./command.ts";
import { addressOf, networkOf, runningTasks } from "./listings.ts";
import { program, systemTest, useLab } from "./system-test.ts";

const lab = useLab({ prefix: "vxl", nodes: 2 }, async ({ nodes: [node1] }) => {
  await node1!.ctl("network", "create", "web");
  await node1!.ctl(
    ...["service", "create", "--name", "echo", "--replicas", "2", "--network", "web"],
    ...["--", ...program("echo-server", 7)],
  );
});

systemTest(
  "tcpdump decodes our frames as VXLAN with the network's VNI, and every inner checksum is right",
  async (t) => {
    const [node1, node2] = lab().nodes;
    const { vni } = await networkOf(node1!, "web");
    const remote = addressOf((await runningTasks(node1!, "echo")).find(({ node }) => node === node2!.name)!);
    const file = join(lab().directory, "capture.pcap");
    const capture = new Background(node2!.inside(["tcpdump", "-i", "eth0", "-U", "-w", file, "udp", "port", "4789"]));
    await capture.says("listening on");
    for (const argv of [
      program("ask", "tcp", remote, 7, 3),
      program("ask", "udp", remote, 7, 3),
      ["ping", "-c3", "-i0.2", remote],
      program("ask", "tcp", "echo", 7, 4),
    ]) {
      t.is((await node1!.container("web", argv)).status, 0);
    }
    await capture.end("SIGINT");

    const text = await run(["tcpdump", "-r", file, "-nn", "-vvv"]);
    // Frames of our network only: the management VNI carries probes.
    const frames = text
      .split(/\n(?=\d\d:\d\d:\d\d\.)/)
      .filter((frame) => frame.includes(`VXLAN, flags [I] (0x08), vni ${vni}`));
    const inner = frames.map((frame) => frame.slice(frame.indexOf("VXLAN")));
    for (const [what, pattern] of [
      ["TCP", /Flags \[[^\]]*\], cksum 0x[0-9a-f]{4} \(correct\)/],
      ["UDP", /\[udp sum ok\]/],
      ["ICMP", /ICMP echo request/],
    ] as const) {
      t.true(
        inner.filter((frame) => pattern.test(frame)).length >= 6 - (what === "ICMP" ? 3 : 0),
        `${what}:\n${inner.join("\n")}`,
      );
    }
    for (const frame of inner) t.notRegex(frame, /incorrect|bad (udp )?cksum|wrong icmp cksum/);
  },
);
