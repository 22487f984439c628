// VXLAN on the wire: a capture decoded by tcpdump.
import { spawn } from "node:child_process";
import { join } from "node:path";
import type { NetworkView } from "../../src/api/schema.ts";
import { run, waitFor } from "./command.ts";
import { addressOf, runningTasks } from "./listings.ts";
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
    const { vni } = await node1!.ctlJson<NetworkView>("network", "inspect", "web");
    const remote = addressOf((await runningTasks(node1!, "echo")).find(({ node }) => node === node2!.name)!);
    const file = join(lab().directory, "capture.pcap");
    const [command, ...argv] = node2!.inside(["tcpdump", "-i", "eth0", "-U", "-w", file, "udp", "port", "4789"]);
    const capture = spawn(command!, argv, { stdio: ["ignore", "ignore", "pipe"] });
    let said = "";
    capture.stderr.setEncoding("utf8").on("data", (text: string) => {
      said += text;
    });
    await waitFor(() => said.includes("listening on"), { what: "tcpdump to listen" });
    for (const argv of [
      program("ask", "tcp", remote, 7, 3),
      program("ask", "udp", remote, 7, 3),
      ["ping", "-c3", "-i0.2", remote],
      program("ask", "tcp", "echo", 7, 4),
    ]) {
      t.is((await node1!.container("web", argv)).status, 0);
    }
    capture.kill("SIGINT");
    await new Promise((resolve) => capture.on("close", resolve));

    const text = await run(["tcpdump", "-r", file, "-nn", "-vvv"]);
    // Frames of our network only: the management VNI carries probes.
    const frames = text.split(/\n(?=\S)/).filter((frame) => frame.includes(`VXLAN, flags [I] (0x08), vni ${vni}`));
    const inner = frames.map((frame) => frame.slice(frame.indexOf("VXLAN")));
    for (const [what, pattern] of [
      ["TCP", /Flags \[[^\]]*\], cksum 0x[0-9a-f]{4} \(correct\)/],
      ["UDP", /\[udp sum ok\]/],
      ["ICMP", /ICMP echo request/],
    ] as const) {
      t.true(inner.filter((frame) => pattern.test(frame)).length >= 6 - (what === "ICMP" ? 3 : 0), `${what}:\n${text}`);
    }
    for (const frame of inner) t.notRegex(frame, /incorrect|bad (udp )?cksum|wrong icmp cksum/);
  },
);
