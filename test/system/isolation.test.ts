// What must not pass: between networks, out of an internal network, and to what is the node's alone.
import type { ServiceView, StatsView } from "../../src/api/schema.ts";
import { STORE_PEER_PORT } from "../../src/lib/standard-ports.ts";
import { frame } from "../fakes/frames.ts";
import { ipPacket, SYN } from "../fakes/ip-packets.ts";
import { Background, curlBriefly, dig, IN_VAIN_MS, ping, pingInVain, TRY_MS, waitFor } from "./command.ts";
import { CLIENT_ADDRESS, type Lab, type LabNode, OUTSIDE_ADDRESS } from "./lab.ts";
import { addressOf, namespaceOf, networkOf, runningTasks, vipOf } from "./listings.ts";
import { program } from "./program.ts";
import { systemTest, useLab } from "./system-test.ts";

const SERVICES = { red: "red", blue: "blue", closed: "vault" };

/** The address of the first node's second link, such as a management network's. */
const MANAGEMENT_ADDRESS = "198.18.0.11";
/** Leads to the first node's sessions by address translation, which the router that all nodes have as their default way does. */
const ADVERTISED = { host: "203.0.113.5", port: 8377 };

const cluster = { listen: "0.0.0.0:2377", advertise: `${ADVERTISED.host}:${ADVERTISED.port}` };

async function translate({ nodes: [node1], client }: Lab): Promise<void> {
  const rule = `ip daddr ${ADVERTISED.host} tcp dport ${ADVERTISED.port} dnat to ${node1!.address}:2377`;
  await client.exec(["nft", "-f", "-"], {
    input: `table ip translator {
      chain pre { type nat hook prerouting priority dstnat; ${rule}; }
      chain post { type nat hook postrouting priority srcnat; ip daddr ${node1!.address} tcp dport 2377 masquerade; }
    }`,
  });
  await client.exec(["sysctl", "-qw", "net.ipv4.ip_forward=1"]);
}

const lab = useLab({ prefix: "iso", nodes: 2, cluster }, prepare, { beforeAgents: translate });

async function prepare({ nodes: [node1] }: Lab): Promise<void> {
  for (const [network, service] of Object.entries(SERVICES)) {
    const internal = network === "closed" ? ["--internal"] : [];
    await node1!.ctl("network", "create", ...internal, network);
    await node1!.ctl(
      ...["service", "create", "--name", service, "--replicas", "2", "--network", network],
      ...["--", ...program("echo-server", 7)],
    );
  }
}

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

systemTest(
  "what a container sends from an address that is not its own stops on its link, and is counted",
  async (t) => {
    const [node1] = lab().nodes;
    const stopped = async (): Promise<number> => {
      const { drops } = await node1!.ctlJson<StatsView>("stats", "--all");
      return drops["container-leftover"]!;
    };
    const before = await stopped();
    const target = addressOf((await runningTasks(node1!, "red"))[0]!);
    const forge = `ip address add 198.51.100.66/32 dev eth0; ping -c3 -i0.2 -W1 -I 198.51.100.66 ${target}`;
    t.not((await node1!.container("red", ["sh", "-c", forge])).status, 0);
    t.true((await stopped()) >= before + 3);
  },
);

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

systemTest(
  "a container reaches a manager's sessions and its store on no address that leads there, and neither is published",
  async (t) => {
    const { nodes, client } = lab();
    const [node1, node2] = nodes;
    await node1!.exec(["ip", "link", "add", "management0", "type", "veth", "peer", "name", "management1"]);
    for (const link of ["management0", "management1"]) await node1!.exec(["ip", "link", "set", link, "up"]);
    await node1!.exec(["ip", "address", "add", `${MANAGEMENT_ADDRESS}/32`, "dev", "management0"]);
    // The router that both nodes have as their default way.
    await client.exec(["ip", "route", "add", MANAGEMENT_ADDRESS, "via", node1!.address]);
    // What another process has there stands for a store: the node itself reaches it.
    new Background(node1!.inside(program("echo-server", STORE_PEER_PORT)));
    const answerOf = ["-o", "/dev/null", "-w", "%{http_code}", "-d", "{}"];
    const post = (host: string, port: number) => curlBriefly(...answerOf, `http://${host}:${port}/v1/commands`);
    const ways: [string, number][] = [
      [node1!.address, 2377],
      [node2!.address, 2377],
      [MANAGEMENT_ADDRESS, 2377],
      [ADVERTISED.host, ADVERTISED.port],
    ];
    const isTold = async () => JSON.stringify(await node2!.ctlJson("node", "ls")).includes(MANAGEMENT_ADDRESS);
    await waitFor(isTold, { what: "the manager's address to be told" });
    for (const [host, port] of ways.filter(([way]) => way !== node2!.address)) {
      t.regex((await node2!.tryExec(post(host, port))).stdout, /^[2-5]\d\d$/, `node2 itself reaches ${host}`);
    }
    const askStore = (host: string, tryMs = TRY_MS) => program("ask", "tcp", host, STORE_PEER_PORT, 1, tryMs);
    await waitFor(async () => (await node1!.tryExec(askStore(node1!.address))).status === 0, {
      what: "the store's port",
    });
    for (const host of [node2!, client]) t.not((await host.tryExec(askStore(node1!.address, IN_VAIN_MS))).status, 0);
    for (const port of [2377, STORE_PEER_PORT]) {
      const create = `overlayctl service create --name taken -p ${port}:7 -- true`;
      t.regex((await node1!.shell(create)).stderr, new RegExp(`port ${port}/tcp is the (cluster's|managers')`));
    }
    for (const node of nodes) {
      const gateways = await Promise.all(Object.keys(SERVICES).map((network) => networkOf(node, network)));
      for (const network of ["red", "closed"]) {
        const own = gateways.map(({ gateway }): [string, number] => [gateway, 2377]);
        for (const [host, port] of [...ways, ...own]) {
          const { stdout } = await node.container(network, post(host, port));
          t.is(stdout, "000", `from ${network} on ${node.name} to ${host}:${port}`);
        }
        for (const host of [node1!.address, MANAGEMENT_ADDRESS, ...gateways.map(({ gateway }) => gateway)]) {
          const { status } = await node.container(network, askStore(host, IN_VAIN_MS));
          t.not(status, 0, `from ${network} on ${node.name} to the store at ${host}`);
        }
      }
    }
  },
);

systemTest("a container of an internal network has DNS and a ping of its node, and nothing else of it", async (t) => {
  const [node1] = lab().nodes;
  const { gateway } = await networkOf(node1!, "closed");
  new Background(node1!.inside(program("echo-server", 7010)));
  const ask = (network: string, host: string) =>
    node1!.container(network, program("ask", "tcp", host, 7010, 1, TRY_MS));
  await waitFor(async () => (await ask("red", (await networkOf(node1!, "red")).gateway)).status === 0, {
    what: "a container of an open network to be answered",
  });
  for (const host of [gateway, node1!.address]) t.not((await ask("closed", host)).status, 0, host);
  t.is((await node1!.container("closed", ping(gateway))).status, 0);
  for (const way of ["+notcp", "+tcp"]) {
    const { stdout } = await node1!.container("closed", dig("+short", way, "vault"));
    t.is(stdout.trim(), (await vipOf(node1!, "vault"))!, way);
  }
});

systemTest("a node reaches by the ingress network only what is published, whichever address it takes", async (t) => {
  const [node1, node2] = lab().nodes;
  const created = await node1!.shell(
    `overlayctl service create --name shown --network blue -p 7020:7 --constraint node.name==${node1!.name} -- ` +
      program("echo-server", 7).join(" "),
  );
  t.is(created.status, 0, created.stderr);
  const shown = addressOf((await runningTasks(node1!, "shown"))[0]!);
  const hidden = (await runningTasks(node1!, "blue")).filter(({ node }) => node === node1!.name).map(addressOf)[0]!;
  const ask = (host: string, port: number) => node2!.tryExec(program("ask", "tcp", host, port, 2, TRY_MS));
  t.is((await ask("127.0.0.1", 7020)).status, 0, "localhost:PORT");
  t.is((await ask(shown, 7)).status, 0, "the published task");
  t.not((await ask(hidden, 7)).status, 0, "a task that publishes nothing");
  // A client outside has any address: node2's agent would not send this packet, but a host that forges its VTEP does.
  const packet = ipPacket({ source: "198.51.100.66", destination: hidden, destinationPort: 7, flags: SYN });
  const { vni } = await networkOf(node1!, "ingress");
  const datagram = Buffer.from(frame(packet, { vni })).toString("hex");
  const script = `require("dgram").createSocket("udp4")
    .send(Buffer.from("${datagram}", "hex"), 4789, "${node1!.address}", () => process.exit())`;
  const before = (await dropsOf(node1!))["not-allowed"] ?? 0;
  await node2!.exec([process.execPath, "-e", script]);
  await waitFor(async () => (await dropsOf(node1!))["not-allowed"]! > before, {
    what: "the forged packet to be dropped",
  });
  t.pass();
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

systemTest("a host of the LAN reaches nothing of the overlay by routing its addresses to a node", async (t) => {
  const [node1] = lab().nodes;
  const { client } = lab();
  await node1!.ctl(
    ...[
      "service",
      "create",
      "--name",
      "own",
      "-p",
      "127.0.0.1:7070:7",
      "-p",
      "7071:7",
      "--",
      ...program("echo-server", 7),
    ],
  );
  const [service] = await node1!.ctlJson<ServiceView[]>("service", "inspect", "own");
  await client.exec(["ip", "route", "add", "10.192.0.0/10", "via", node1!.address]);
  t.is((await client.tryExec(program("ask", "tcp", node1!.address, 7071, 1))).status, 0);
  t.is((await node1!.tryExec(program("ask", "tcp", "127.0.0.1", 7070, 1))).status, 0);
  const before = (await dropsOf(node1!))["routed-from-outside"]!;
  const { gateway } = await networkOf(node1!, "red");
  const [task] = (await runningTasks(node1!, "own")).map(addressOf);
  for (const port of [7070, 7071])
    t.not((await client.tryExec(program("ask", "tcp", service!.meshVip!, port, 1), { timeoutMs: 3000 })).status, 0);
  t.not((await client.tryExec(program("ask", "tcp", task!, 7, 1), { timeoutMs: 3000 })).status, 0);
  t.not((await client.tryExec(["ping", "-c1", "-W1", gateway])).status, 0);
  t.not((await client.tryExec(["dig", "+time=1", "+tries=1", `@${gateway}`, "red"])).status, 0);
  t.true((await dropsOf(node1!))["routed-from-outside"]! > before, "it did not come that far");
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
