// What must not pass: between networks, out of an internal network, and to what is the node's alone.
import type { StatsView } from "../../src/api/schema.ts";
import { Background, dig, IN_VAIN_MS, ping, pingInVain, waitFor } from "./command.ts";
import { CLIENT_ADDRESS, type LabNode, OUTSIDE_ADDRESS } from "./lab.ts";
import { addressOf, namespaceOf, networkOf, runningTasks, vipOf } from "./listings.ts";
import { program, systemTest, useLab } from "./system-test.ts";

const SERVICES = { red: "red", blue: "blue", closed: "vault" };

const lab = useLab({ prefix: "iso", nodes: 2 }, async ({ nodes: [node1] }) => {
  for (const [network, service] of Object.entries(SERVICES)) {
    const internal = network === "closed" ? ["--internal"] : [];
    await node1!.ctl("network", "create", ...internal, network);
    await node1!.ctl(
      ...["service", "create", "--name", service, "--replicas", "2", "--network", network],
      ...["--", ...program("echo-server", 7)],
    );
  }
});

systemTest("a container reaches the services of its own network", async (t) => {
  for (const node of lab().nodes) {
    for (const [network, service] of Object.entries(SERVICES)) {
      const { status, stderr } = await node.container(network, program("ask", "tcp", service, 7, 4));
      t.is(status, 0, `${node.name}, ${network}: ${stderr}`);
    }
  }
});

systemTest("a container reaches neither VIP nor tasks nor names of another network", async (t) => {
  for (const node of lab().nodes) {
    const targets = [await vipOf(node, "blue"), ...(await runningTasks(node, "blue")).map(addressOf)];
    for (const target of targets) {
      const { status } = await node.container("red", program("ask", "tcp", target!, 7, 1, IN_VAIN_MS));
      t.not(status, 0, `${node.name} to ${target}`);
    }
    const { stdout } = await node.container("red", dig("blue"));
    t.regex(stdout, /status: NXDOMAIN/);
  }
});

systemTest("a container does not reach the gateway of another network", async (t) => {
  const [node1] = lab().nodes;
  const { gateway } = await networkOf(node1!, "blue");
  t.not((await node1!.container("red", pingInVain(gateway))).status, 0);
  t.not((await node1!.container("red", ["dig", "+tries=1", "+time=1", `@${gateway}`, "blue"])).status, 0);
});

systemTest("a container of an open network reaches the world outside through its node", async (t) => {
  for (const node of lab().nodes) {
    for (const target of [CLIENT_ADDRESS, OUTSIDE_ADDRESS]) {
      const { status, stdout } = await node.container("red", ping(target));
      t.is(status, 0, `${node.name} to ${target}: ${stdout}`);
    }
  }
});

systemTest("a container of an internal network does not", async (t) => {
  for (const target of [OUTSIDE_ADDRESS, lab().nodes[1]!.address]) {
    t.not((await lab().nodes[0]!.container("closed", pingInVain(target))).status, 0, target);
  }
});

systemTest("a container does not reach services on the node's loopback", async (t) => {
  const [node1] = lab().nodes;
  const [task] = (await runningTasks(node1!, "red")).filter(({ node }) => node === node1!.name);
  const inTask = (...argv: string[]) => node1!.tryExec(["ip", "netns", "exec", namespaceOf(task!), ...argv]);
  new Background(node1!.inside(program("echo-server", 7007)));
  const askItself = () => node1!.tryExec(program("ask", "tcp", "127.0.0.1", 7007, 1));
  await waitFor(async () => (await askItself()).status === 0, { what: "the node's own service" });
  // Its own loopback stands in the way: so that packets to 127.0.0.2 leave it,
  for (const line of [
    "echo 1 > /proc/sys/net/ipv4/conf/all/route_localnet",
    "ip route del local 127.0.0.0/8 dev lo table local",
    `ip route add 127.0.0.2 via 169.254.1.1 dev eth0 onlink src ${addressOf(task!)}`,
  ]) {
    t.is((await inTask("sh", "-c", line)).status, 0, line);
  }
  const before = await dropsOf(node1!);
  t.not((await inTask(...program("ask", "tcp", "127.0.0.2", 7007, 1, IN_VAIN_MS))).status, 0);
  t.true((await dropsOf(node1!))["bad-destination"]! > (before["bad-destination"] ?? 0), "it did not come that far");
});

systemTest("a packet with a source that is not the container's own goes nowhere", async (t) => {
  const [node1, node2] = lab().nodes;
  const [task] = (await runningTasks(node1!, "red")).filter(({ node }) => node === node1!.name);
  const [target] = (await runningTasks(node1!, "red")).filter(({ node }) => node === node2!.name);
  const inTask = (...argv: string[]) => node1!.tryExec(["ip", "netns", "exec", namespaceOf(task!), ...argv]);
  t.is((await inTask(...ping(addressOf(target!)))).status, 0);
  for (const spoofed of [addressOf(target!), "192.0.2.99"]) {
    await inTask("ip", "address", "add", `${spoofed}/32`, "dev", "lo");
    t.not((await inTask(...pingInVain((await vipOf(node1!, "red"))!, "-I", spoofed))).status, 0, spoofed);
    await inTask("ip", "address", "del", `${spoofed}/32`, "dev", "lo");
  }
});

systemTest("a connection into another network is counted as not allowed", async (t) => {
  const [node1] = lab().nodes;
  const before = await dropsOf(node1!);
  await node1!.container("red", program("ask", "tcp", (await vipOf(node1!, "blue"))!, 7, 1, IN_VAIN_MS));
  t.true((await dropsOf(node1!))["not-allowed"]! > (before["not-allowed"] ?? 0));
});

async function dropsOf(node: LabNode): Promise<Record<string, number>> {
  return (await node.ctlJson<StatsView>("stats")).drops;
}
