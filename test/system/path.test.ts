// The way a packet takes, as a person looks at it: MTU, traceroute, large pings, and resets when an end goes.
import type { PeerView } from "../../src/api/schema.ts";
import { Background, DEADLINE_MS, ping, waitFor } from "./command.ts";
import { addressOf, runningTasks, vipOf } from "./listings.ts";
import { program } from "./program.ts";
import { systemTest, useLab } from "./system-test.ts";

const lab = useLab({ prefix: "pth", nodes: 2 }, async ({ nodes: [node1, node2] }) => {
  await node1!.ctl("network", "create", "web");
  await node1!.ctl(
    ...["service", "create", "--name", "echo", "--network", "web", "-p", "7000:7", "-p", "7000:7/udp"],
    ...["--constraint", `node.name==${node2!.name}`, "--", ...program("echo-server", 7)],
  );
});

async function measuredMtu(expected: number): Promise<PeerView> {
  return waitFor(
    async () => {
      const [peer] = await lab().nodes[0]!.ctlJson<PeerView[]>("peers");
      return peer?.mtu === expected && peer;
    },
    { what: `an MTU of ${expected} to be measured` },
  );
}

const inWeb = (...argv: string[]) => lab().nodes[0]!.container("web", argv);

systemTest("a ping of more than the MTU through a VIP is carried in pieces", async (t) => {
  const vip = await vipOf(lab().nodes[0]!, "echo");
  const { status, stdout } = await inWeb(...ping(vip!, "-c3", "-i0.2", "-s", "5000"));
  t.is(status, 0, stdout);
});

systemTest("a packet whose hops are used up is told of: by the task's node, through the VIP too", async (t) => {
  const [task] = await runningTasks(lab().nodes[0]!, "echo");
  for (const target of [addressOf(task!), await vipOf(lab().nodes[0]!, "echo")]) {
    const { stdout } = await inWeb(...ping(target!, "-t", "1"));
    t.regex(stdout, /Time to live exceeded/, target!);
  }
});

systemTest("a UDP client through the VIP hears that the task does not listen", async (t) => {
  const vip = await vipOf(lab().nodes[0]!, "echo");
  const script = `const s = require("dgram").createSocket("udp4"); s.connect(9, "${vip}", () => s.send("x"));
    s.on("error", (e) => { console.log(e.code); process.exit(); }); setTimeout(() => process.exit(1), ${DEADLINE_MS})`;
  const { stdout } = await inWeb(process.execPath, "-e", script);
  t.is(stdout.trim(), "ECONNREFUSED");
});

systemTest("an address that nobody has is refused", async (t) => {
  const vip = await vipOf(lab().nodes[0]!, "echo");
  const { stdout } = await inWeb(...ping(vip!.replace(/\.\d+$/, ".250")));
  t.regex(stdout, /Destination Host Unreachable/);
});

systemTest("a client outside whose hops are used up hears of the packet that it sent, as it sent it", async (t) => {
  const { client, nodes } = lab();
  const capture = new Background(client.inside(["tcpdump", "-l", "-nn", "-v", "-i", "eth0", "icmp"]));
  await capture.says("listening on");
  // The node that it reaches is the last hop that its packet has. Where nftables lead it there, the kernel has counted one hop before: two.
  const script = `const s = require("dgram").createSocket("udp4"); s.bind(4321, () => { s.setTTL(1);
    s.send("x", 7000, "${nodes[0]!.address}", () => process.exit()); })`;
  await client.exec([process.execPath, "-e", script]);
  await capture.says("time exceeded");
  await capture.says(`${client.address}.4321 > ${nodes[0]!.address}.7000`);
  await capture.end("SIGINT");
  t.pass();
});

systemTest("the MTU to a peer is measured, and a narrower way on one node is found and obeyed", async (t) => {
  const [node1, node2] = lab().nodes;
  await measuredMtu(1450);
  await node2!.exec(["ip", "link", "set", "eth0", "mtu", "1400"]);
  await measuredMtu(1350);
  const vip = await vipOf(node1!, "echo");
  const { stdout } = await inWeb(...ping(vip!, "-c2", "-i0.3", "-M", "do", "-s", "1400"));
  t.regex(stdout, /mtu ?= ?1350/);
  const pieces = await inWeb(...ping(vip!, "-c2", "-i0.3", "-M", "dont", "-s", "1400"));
  t.is(pieces.status, 0, pieces.stdout);
  const script = `const s = require("net").connect(7, "${vip}"); let n = 0;
    s.write("overlay".repeat(50000) + "\\n");
    s.on("data", (d) => { n += d.length; if (n > 350000) { console.log("whole"); process.exit(); } });
    setTimeout(() => process.exit(1), ${DEADLINE_MS})`;
  const transfer = await inWeb(process.execPath, "-e", script);
  t.is(transfer.stdout.trim(), "whole", "TCP takes the MSS that fits");
  await node2!.exec(["ip", "link", "set", "eth0", "mtu", "1500"]);
});

systemTest("a client of a task that is removed gets a reset", async (t) => {
  const [node1] = lab().nodes;
  const vip = await vipOf(node1!, "echo");
  const script = `const s = require("net").connect(7, "${vip}", () => console.log("connected"));
    s.on("error", (e) => console.log(e.code)); s.on("close", () => process.exit()); s.on("data", () => {})`;
  const client = new Background(
    node1!.inside(["overlayctl", "run", "--network", "web", "--", process.execPath, "-e", script]),
    node1!.env,
  );
  await waitFor(() => client.output.includes("connected"), { what: "the client to be connected" });
  await node1!.ctl("service", "rm", "echo");
  await waitFor(() => client.output.includes("ECONNRESET"), { what: "the reset" });
  t.pass();
});
