// An encrypted network between real agents: what is on the underlay in each case, captured there and searched for what the containers said.
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { ExecutionContext } from "ava";
import type { FlowView, StatsView } from "../../src/api/schema.ts";
import { vethName } from "../../src/links/desired.ts";
import { Background, run, waitFor } from "./command.ts";
import type { LabHost, LabNode } from "./lab.ts";
import { addressOf, namespaceOf, networkOf, runningTasks, vipOf } from "./listings.ts";
import { program } from "./program.ts";
import { systemTest, useLab } from "./system-test.ts";

const lab = useLab({ prefix: "enc", nodes: 2 }, async ({ nodes: [node1] }) => {
  await node1!.ctl("network", "create", "--opt", "encrypted", "vault");
  await node1!.ctl("network", "create", "open");
  for (const [network, name, port] of [
    ["vault", "secret", "7000"],
    ["open", "plain", "7001"],
  ] as const) {
    await node1!.ctl(
      ...[
        "service",
        "create",
        "--name",
        name,
        "--replicas",
        "2",
        "--network",
        network,
        "-p",
        `${port}:7`,
        "-p",
        `${port}:7/udp`,
      ],
      ...["--", ...program("echo-server", 7)],
    );
  }
});

/** What every line of a request has (programs/ask.ts): clear on the wire it is found. */
const PLAINTEXT = "line-";

/** Keeps what is on the underlay of a node while `during` goes on, and gives it as bytes. */
async function captured(node: LabHost, name: string, during: () => Promise<void>): Promise<Buffer> {
  const file = join(lab().directory, `${name}.pcap`);
  const capture = new Background(node.inside(["tcpdump", "-i", "eth0", "--immediate-mode", "-U", "-w", file, "ip"]));
  await capture.says("listening on");
  await during();
  await capture.end("SIGINT");
  return readFileSync(file);
}

/** The frames of the VNI that are in a capture in the clear. */
async function clearFrames(name: string, vni: number): Promise<string[]> {
  const all = await run([
    "tcpdump",
    "-r",
    join(lab().directory, `${name}.pcap`),
    "-nn",
    "-T",
    "vxlan",
    "udp port 4789",
  ]);
  return all.split("\n").filter((line) => new RegExp(`vni ${vni}(?!\\d)`).test(line));
}

async function remoteTask(node: LabNode, service: string): Promise<string> {
  return addressOf((await runningTasks(node, service)).find((task) => task.node !== node.name)!);
}

async function dropsOf(node: LabNode, name: string): Promise<number> {
  return (await node.ctlJson<StatsView>("stats", "--all")).drops[name] ?? 0;
}

/** Keys come with the agents: a container of the network reaches the other node. */
async function untilSealed(node: LabNode, target: string): Promise<void> {
  await waitFor(async () => (await node.container("vault", program("ask", "tcp", target, 7, 1))).status === 0, {
    what: `${node.name} to reach ${target} sealed`,
  });
}

async function askAll(t: ExecutionContext, network: string, target: string, vip: string): Promise<void> {
  const [node1] = lab().nodes;
  for (const argv of [
    program("ask", "tcp", target, 7, 3),
    program("ask", "udp", target, 7, 3),
    program("ask", "tcp", vip, 7, 4),
    ["ping", "-c2", "-i0.2", "-p", Buffer.from(PLAINTEXT).toString("hex"), target],
  ]) {
    const { status, stderr } = await node1!.container(network, argv);
    t.is(status, 0, `${argv.join(" ")}: ${stderr}`);
  }
}

systemTest("what containers of an encrypted network say to another node is on the wire in ESP alone", async (t) => {
  const [node1, node2] = lab().nodes;
  const target = await remoteTask(node1!, "secret");
  await untilSealed(node1!, target);
  const { vni } = await networkOf(node1!, "vault");
  const bytes = await captured(node2!, "sealed", async () => {
    await askAll(t, "vault", target, (await vipOf(node1!, "secret"))!);
  });
  t.false(bytes.includes(PLAINTEXT));
  t.deepEqual(await clearFrames("sealed", vni), []);
  // With the keys, which root gets, another program reads it.
  const keys = await node1!.ctl("debug", "export-keys", node2!.name);
  writeFileSync(join(lab().directory, "esp_sa"), keys);
  const read = ["tshark", "-r", join(lab().directory, "sealed.pcap"), "-o", "esp.enable_encryption_decode:TRUE"];
  const inner = ["-Y", `esp && ip.addr == ${target} && (tcp.port == 7 || udp.port == 7)`];
  const opened = await run(["env", `WIRESHARK_CONFIG_DIR=${lab().directory}`, ...read, ...inner]);
  t.true(opened.split("\n").length > 10, opened);
  const sealed = await run(["tcpdump", "-r", join(lab().directory, "sealed.pcap"), "-nn", "udp port 4500"]);
  t.true(sealed.split("\n").length > 20, sealed);
});

systemTest("beside it a clear network is as before: the search finds what is clear", async (t) => {
  const [node1, node2] = lab().nodes;
  // As a network card sends them, for what a container leaves unfinished is in the capture as it is.
  const bytes = await captured(node2!, "clear", async () => {
    await askAll(t, "open", await remoteTask(node1!, "plain"), (await vipOf(node1!, "plain"))!);
  });
  t.true(bytes.includes(PLAINTEXT));
});

systemTest("clients outside reach what is published of it, and between the nodes that is sealed too", async (t) => {
  const { client, nodes } = lab();
  const bytes = await captured(nodes[1]!, "mesh", async () => {
    for (const protocol of ["tcp", "udp"]) {
      for (const { address } of nodes) {
        // Each node balances over both tasks: of four connections two go to the other node.
        const asked = await client.tryExec(program("ask", protocol, address, 7000, 4));
        t.is(asked.status, 0, asked.stderr);
      }
    }
  });
  const { vni } = await networkOf(nodes[0]!, "ingress");
  t.deepEqual(await clearFrames("mesh", vni), []);
  t.true(bytes.includes(PLAINTEXT), "what the client itself says to the nodes is clear");
});

systemTest("a flow of an encrypted network is never in the express lane", async (t) => {
  const [node1] = lab().nodes;
  const target = await remoteTask(node1!, "secret");
  const own = (await runningTasks(node1!, "secret")).find(({ node }) => node === node1!.name)!;
  const talk = new Background(["nsenter", `--net=/run/netns/${namespaceOf(own)}`, ...program("talk", target, 7)]);
  await talk.says("talking");
  const flows = await node1!.ctlJson<FlowView[]>("flows", "--endpoint", target);
  const open = flows.filter(({ client }) => client.startsWith(`${addressOf(own)}:`));
  t.is(open.length, 1, JSON.stringify(flows));
  t.is(open[0]!.lane, null);
  await talk.end("SIGTERM");
});

systemTest("each link of a container has its network's MTU", async (t) => {
  const [node1] = lab().nodes;
  for (const [service, mtu] of [
    ["secret", 1408],
    ["plain", 1450],
  ] as const) {
    const task = (await runningTasks(node1!, service)).find(({ node }) => node === node1!.name)!;
    const inside = JSON.parse(
      await run(["nsenter", `--net=/run/netns/${namespaceOf(task)}`, "ip", "-json", "link", "show", "eth0"]),
    ) as { mtu: number }[];
    t.is(inside[0]!.mtu, mtu, service);
    const outside = JSON.parse(await node1!.exec(["ip", "-json", "link", "show", vethName(addressOf(task))])) as {
      mtu: number;
    }[];
    t.is(outside[0]!.mtu, mtu, service);
  }
});

/** A VXLAN frame with a UDP datagram in it, from a node's VTEP: as whoever has its address on the wire can send it. */
function forge(lines: {
  from: string;
  to: string;
  vni: number;
  source: string;
  target: string;
  port: number;
}): string[] {
  const script = `import sys, json
from scapy.all import *
from scapy.layers.vxlan import VXLAN
a = json.loads(sys.argv[1])
send(IP(src=a["from"], dst=a["to"]) / UDP(sport=50000, dport=4789) / VXLAN(vni=a["vni"], flags=8)
     / Ether(src="02:00:5e:00:00:01", dst="02:00:5e:00:00:02") / IP(src=a["source"], dst=a["target"])
     / UDP(sport=4242, dport=a["port"]) / b"forged", verbose=False, count=3)`;
  return ["python3", "-c", script, JSON.stringify(lines)];
}

systemTest(
  "clear VXLAN of an encrypted network is dropped, though it comes from a node's VTEP (CVE-2023-28840)",
  async (t) => {
    const [node1, node2] = lab().nodes;
    const tasks = await runningTasks(node1!, "secret");
    const addressOn = (node: LabNode): string => addressOf(tasks.find((task) => task.node === node.name)!);
    const { vni } = await networkOf(node1!, "vault");
    const ingress = (await networkOf(node1!, "ingress")).vni;
    const target = addressOn(node1!);
    const netns = namespaceOf(tasks.find((task) => task.node === node1!.name)!);
    const inside = new Background([
      "nsenter",
      `--net=/run/netns/${netns}`,
      "tcpdump",
      "-l",
      "-nn",
      "-i",
      "eth0",
      "udp port 4242",
    ]);
    await inside.says("listening on");
    const before = await dropsOf(node1!, "clear-packet");
    const way = { from: node2!.address, to: node1!.address, target, port: 7 };
    await node2!.exec(forge({ ...way, vni, source: addressOn(node2!) }));
    // On the ingress network, as the other node sends it a client's packet for a published port.
    await node2!.exec(forge({ ...way, vni: ingress, source: "198.51.100.66" }));
    await waitFor(async () => (await dropsOf(node1!, "clear-packet")) >= before + 6, {
      what: "six packets to be dropped",
    });
    await inside.end("SIGINT");
    t.regex(inside.output, /0 packets captured/);
  },
);

systemTest(
  "from outside only published ports come into it, by the mesh and the ingress network (CVE-2023-28842)",
  async (t) => {
    const { client, nodes } = lab();
    const [node1] = nodes;
    const target = await remoteTask(nodes[1]!, "secret");
    t.is((await client.tryExec(program("ask", "tcp", node1!.address, 7000, 1))).status, 0);
    await client.exec(["ip", "route", "replace", `${target}/32`, "via", node1!.address]);
    t.teardown(() => client.exec(["ip", "route", "del", `${target}/32`]));
    t.not((await client.tryExec(program("ask", "tcp", target, 7, 1, 1500))).status, 0);
  },
);

systemTest(
  "nothing leaves clear while there are no keys, rules are flushed, or an agent starts again (CVE-2023-28841)",
  async (t) => {
    const [node1, node2] = lab().nodes;
    const target = await remoteTask(node1!, "secret");
    await untilSealed(node1!, target);
    const own = namespaceOf((await runningTasks(node1!, "secret")).find(({ node }) => node === node1!.name)!);
    const { vni } = await networkOf(node1!, "vault");
    const ingress = (await networkOf(node1!, "ingress")).vni;
    const bytes = await captured(node2!, "faults", async () => {
      // A sender that never stops, in the task's namespace and from it: datagrams need no handshake, so each would be seen.
      const script = `const s = require("dgram").createSocket("udp4");
      setInterval(() => s.send("${PLAINTEXT}", 7, "${target}"), 2); console.log("sending")`;
      const sender = new Background(["nsenter", `--net=/run/netns/${own}`, process.execPath, "-e", script]);
      await sender.says("sending");
      for (const flush of [
        ["nft", "flush", "ruleset"],
        ["ip", "rule", "flush"],
      ])
        await node1!.tryExec(flush);
      await node1!.exec(["ip", "rule", "add", "from", "all", "lookup", "main"]);
      await node1!.killAgent();
      await node1!.startAgent();
      await untilSealed(node1!, target);
      // Its peer cannot be asked for keys: they are dropped, and nothing goes out.
      await node1!.exec(["nft", "-f", "-"], {
        input: `table inet nokeys {
        chain o { type filter hook output priority 0; ip daddr ${node2!.address} tcp dport 4789 drop; }
        chain i { type filter hook input priority 0; ip saddr ${node2!.address} tcp dport 4789 drop; }
      }`,
      });
      const before = await dropsOf(node1!, "no-key");
      await node1!.killAgent();
      await node1!.startAgent();
      await waitFor(async () => (await dropsOf(node1!, "no-key")) > before + 10, {
        what: "packets to be dropped for want of a key",
      });
      await node1!.exec(["nft", "delete", "table", "inet", "nokeys"]);
      await untilSealed(node1!, target);
      await sender.end("SIGTERM");
    });
    t.false(bytes.includes(PLAINTEXT));
    t.deepEqual(await clearFrames("faults", vni), []);
    t.deepEqual(await clearFrames("faults", ingress), []);
  },
);
