// Clients outside by published ports, with the express lane: its program at the node's links leads them to the agent, so that the flow table
// alone knows their connections. The client asks node 1; the task is on node 2, or on node 1 itself.
import type { ExecutionContext } from "ava";
import type { FlowView } from "../../src/api/schema.ts";
import { Background, run, waitFor } from "./command.ts";
import { CLIENT_ADDRESS, type Lab, type LabNode, OUTSIDE_ADDRESS } from "./lab.ts";
import { createServer, laneTest, untilGoesOn, untilInLane } from "./lane-talk.ts";
import { program } from "./program.ts";
import { useLab } from "./system-test.ts";

const FAR = 7000;
const NEAR = 7001;
const FAR_DATAGRAMS = 7002;
const NEAR_DATAGRAMS = 7003;

const lab = useLab(
  { prefix: "xme", nodes: 2, settings: { datapath: { express: "auto", expressFlows: 16_384 } } },
  async ({ nodes: [node1, node2] }: Lab) => {
    await node1!.ctl("network", "create", "web");
    await createServer(node1!, "far", node2!, "-p", `${FAR}:7`, "-p", `${FAR_DATAGRAMS}:7/udp`);
    await createServer(node1!, "near", node1!, "-p", `${NEAR}:7`, "-p", `${NEAR_DATAGRAMS}:7/udp`);
  },
);

/** A connection of the client outside to a published port of the node, kept busy; each line has so many bytes more. */
async function talkFromOutside(t: ExecutionContext, node: LabNode, port: number, bytes = 1000): Promise<Background> {
  const { client } = lab();
  const talk = new Background(client.inside(program("talk", node.address, port, bytes)), client.env);
  t.teardown(() => void talk.end("SIGTERM"));
  return talk.says("talking");
}

/** Live flows to the service as the node has them. */
async function flowsOf(node: LabNode, service: string, protocol = "tcp"): Promise<FlowView[]> {
  const flows = await node.ctlJson<FlowView[]>("flows", "--service", service);
  return flows.filter((flow) => flow.protocol === protocol && !/wait|closed|last/.test(flow.state));
}

/** What the kernel of the node tracks of these ports. */
async function trackedBy(node: LabNode, ...ports: number[]): Promise<string[]> {
  const { stdout } = await node.tryExec(["conntrack", "-L"]);
  return stdout.split("\n").filter((line) => ports.some((port) => line.includes(`port=${port} `)));
}

for (const [where, service, port] of [
  ["another node", "far", FAR],
  ["the same node", "near", NEAR],
] as const) {
  laneTest(
    `TCP to a task of ${where}: one flow, by the node's address, and the kernel tracks none of it`,
    async (t) => {
      const [node1, node2] = lab().nodes;
      const talk = await talkFromOutside(t, node1!, port, 300_000);
      await untilGoesOn(talk);
      const flows = await flowsOf(node1!, service);
      t.deepEqual(
        flows.map(({ destination }) => destination),
        [`${node1!.address}:${port}`],
      );
      const nodes = service === "far" ? [node1!, node2!] : [node1!];
      for (const node of nodes) {
        const flow = await untilInLane(node, service);
        t.is(flow.client.split(":")[0], CLIENT_ADDRESS, "the client itself");
        const carried = (await node.api.stats()).datapath.laneBytes!;
        await untilGoesOn(talk);
        const bytes = (await node.api.stats()).datapath.laneBytes! - carried;
        t.true(bytes > 10 * 300_000, `${bytes} bytes by the lane of ${node.name}`);
      }
      t.is(await talk.end("SIGTERM"), 0, talk.output.slice(-500));
      await waitFor(async () => (await flowsOf(node1!, service)).length === 0, { what: "the connection to end" });
      t.deepEqual(await trackedBy(node1!, port), []);
    },
  );
}

/** Sends datagrams of these lengths from one port, each once the last was answered, and prints the lengths of the answers. */
const SEND_LENGTHS = `
const [host, port, ...lengths] = process.argv.slice(1);
const socket = require("node:dgram").createSocket("udp4");
const answers = [];
const next = () => socket.send(Buffer.alloc(Number(lengths[answers.length]), "x"), port, host);
socket.on("message", (message) => {
  answers.push(message.length);
  if (answers.length < lengths.length) return next();
  console.log(JSON.stringify({ answers, port: socket.address().port }));
  process.exit();
});
next();
setInterval(next, 1000);
`;

laneTest("datagrams, whole or in fragments, are one flow", async (t) => {
  const [node1] = lab().nodes;
  for (const [service, port, lengths] of [
    ["far", FAR_DATAGRAMS, [10, 4000, 20]],
    ["far", FAR_DATAGRAMS, [4000, 10, 4000]],
    ["near", NEAR_DATAGRAMS, [10, 4000, 20]],
  ] as const) {
    const argv = [process.execPath, "-e", SEND_LENGTHS, node1!.address, `${port}`, ...lengths.map(String)];
    const said = JSON.parse(await lab().client.exec(argv)) as { answers: number[]; port: number };
    t.is(said.answers.length, lengths.length);
    const flows = (await flowsOf(node1!, service, "udp")).filter(({ client }) => client.endsWith(`:${said.port}`));
    t.deepEqual(
      flows.map(({ destination }) => destination),
      [`${node1!.address}:${port}`],
    );
  }
});

/** Sends a datagram each 20 ms, and prints the number of answers now and then. */
const SEND_STEADILY = `
const [host, port] = process.argv.slice(1);
const socket = require("node:dgram").createSocket("udp4");
let answers = 0;
socket.on("message", () => { if (++answers % 10 === 0) console.log("answers: " + answers); });
setInterval(() => socket.send("x".repeat(answers % 1000), port, host), 20);
`;

for (const [where, service, port] of [
  ["another node", "far", FAR_DATAGRAMS],
  ["the same node", "near", NEAR_DATAGRAMS],
] as const) {
  laneTest(`datagrams to a task of ${where} are in the lane`, async (t) => {
    const [node1, node2] = lab().nodes;
    const { client } = lab();
    const argv = [process.execPath, "-e", SEND_STEADILY, node1!.address, `${port}`];
    const talk = new Background(client.inside(argv), client.env);
    t.teardown(() => void talk.end("SIGTERM"));
    for (const node of service === "far" ? [node1!, node2!] : [node1!]) {
      await untilInLane(node, service, "udp");
      const carried = (await node.api.stats()).datapath.lanePackets!;
      await untilGoesOn(talk, 50);
      const packets = (await node.api.stats()).datapath.lanePackets! - carried;
      t.true(packets > 80, `${packets} packets by the lane of ${node.name}`);
    }
  });
}

laneTest(
  "answers that go by another link than the client's packets came by: both links' ways carry the connection",
  async (t) => {
    const [node1, node2] = lab().nodes;
    const { client } = lab();
    const talk = await talkFromOutside(t, node1!, FAR);
    await untilInLane(node1!, "far");
    const ip = (netns: string, ...argv: string[]): Promise<unknown> => run(["ip", "-n", netns, ...argv]);
    await ip(node1!.netns, "link", "add", "xme-too", "type", "veth", "peer", "name", "xme-too", "netns", client.netns);
    t.teardown(() => ip(node1!.netns, "link", "del", "xme-too").catch(() => {}));
    await client.exec(["sysctl", "-qw", "net.ipv4.conf.xme-too.rp_filter=0", "net.ipv4.conf.all.rp_filter=0"]);
    await ip(client.netns, "link", "set", "xme-too", "up");
    await ip(node1!.netns, "link", "set", "xme-too", "up");
    /** Packets of clients that were led to the agent, for their entry is none or void: that of the other link. */
    const countLed = async (): Promise<number> => {
      const { datapath } = await node1!.api.stats();
      return (datapath.laneFromNodeNoEntry ?? 0) + (datapath.laneFromNodeLostGround ?? 0); // none: not counted yet
    };
    const ledBefore = await countLed();
    await ip(node1!.netns, "route", "add", `${CLIENT_ADDRESS}/32`, "dev", "xme-too", "src", node1!.address);
    await untilGoesOn(talk, 50);
    const led = (await countLed()) - ledBefore;
    t.true(led > 20, `${led} packets of the client were led to the agent`);
    t.is((await flowsOf(node2!, "far")).length, 1);
    await ip(node1!.netns, "link", "del", "xme-too");
    await untilGoesOn(talk);
    await untilInLane(node1!, "far");
    t.is(await talk.end("SIGTERM"), 0, talk.output.slice(-500));
  },
);

laneTest("a client behind a router of a virtual link goes by the agent of the node that it asks", async (t) => {
  const [node1, node2] = lab().nodes;
  const { client } = lab();
  const argv = client.inside(program("talk", node1!.address, FAR, 1000, OUTSIDE_ADDRESS));
  const talk = new Background(argv, client.env);
  t.teardown(() => void talk.end("SIGTERM"));
  await talk.says("talking");
  await untilInLane(node2!, "far");
  await untilGoesOn(talk);
  t.deepEqual(
    (await flowsOf(node1!, "far")).map(({ lane }) => lane),
    [null],
  );
  t.is(await talk.end("SIGTERM"), 0, talk.output.slice(-500));
});

laneTest("either agent is killed under a connection in the lane, which goes on while it is away", async (t) => {
  const { nodes } = lab();
  const talk = await talkFromOutside(t, nodes[0]!, FAR);
  for (const node of nodes) {
    for (const each of nodes) await untilInLane(each, "far");
    await node.killAgent();
    await untilGoesOn(talk, 50);
    await node.startAgent();
    await untilGoesOn(talk);
  }
  t.is(await talk.end("SIGTERM"), 0, talk.output.slice(-500));
});

laneTest(
  "the lane is turned off and on under connections, which go on: one of before, one of in between",
  async (t) => {
    const [node1] = lab().nodes;
    const before = await talkFromOutside(t, node1!, FAR);
    await node1!.ctl("express", "off");
    await untilGoesOn(before);
    const between = await talkFromOutside(t, node1!, FAR);
    await untilGoesOn(between);
    const destinations = async (): Promise<string[]> =>
      (await flowsOf(node1!, "far")).map(({ destination }) => destination).sort();
    const own = `${node1!.address}:${FAR}`;
    t.is((await destinations()).filter((destination) => destination === own).length, 1);
    await node1!.ctl("express", "on");
    for (const talk of [before, between]) await untilGoesOn(talk);
    t.is(
      (await destinations()).filter((destination) => destination === own).length,
      1,
      "nftables have led the other one",
    );
    for (const talk of [before, between]) t.is(await talk.end("SIGTERM"), 0, talk.output.slice(-500));
  },
);

/** Connects from a port of its own, TCP or UDP, to a server that repeats what it hears, and prints that. */
const TALK_FROM = `
const [protocol, host, port, own] = process.argv.slice(1);
const done = (answer) => { console.log(String(answer)); process.exit(); };
if (protocol === "tcp") {
  const socket = require("node:net").connect({ host, port: Number(port), localPort: Number(own) });
  socket.on("data", done).write("of its own");
} else {
  const socket = require("node:dgram").createSocket("udp4").on("message", done);
  socket.bind(Number(own), () => socket.send("of its own", Number(port), host));
}
`;
const REPEAT = `
require("node:net").createServer((socket) => socket.pipe(socket)).listen(9100);
const socket = require("node:dgram").createSocket("udp4");
socket.on("message", (message, { port, address }) => socket.send(message, port, address));
socket.bind(9100, () => console.log("listening"));
`;

laneTest("a connection of the node, or of a container through it, may have a published port as its own", async (t) => {
  const { client, nodes } = lab();
  const server = new Background(client.inside([process.execPath, "-e", REPEAT]), client.env);
  t.teardown(() => void server.end("SIGKILL"));
  await server.says("listening");
  const talk = (protocol: string, own: number): string[] => {
    return [process.execPath, "-e", TALK_FROM, protocol, client.address, "9100", `${own}`];
  };
  t.is(await nodes[0]!.exec(talk("tcp", FAR)), "of its own\n");
  t.is(await nodes[0]!.exec(talk("udp", FAR_DATAGRAMS)), "of its own\n");
  t.is((await nodes[0]!.container("web", talk("tcp", NEAR))).stdout, "of its own\n");
});

const FIREWALLS: [title: string, rules: string[]][] = [
  [
    "drops what it forwards but for connections that the kernel knows",
    [
      "iptables -P FORWARD DROP",
      "iptables -A FORWARD -m conntrack --ctstate INVALID -j DROP",
      "iptables -A FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
    ],
  ],
  [
    "refuses the rest in its last rule",
    [
      "iptables -A FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
      "iptables -A FORWARD -j REJECT --reject-with icmp-host-prohibited",
    ],
  ],
  [
    "drops what belongs to no connection",
    [
      "iptables -A FORWARD -m conntrack --ctstate INVALID -j DROP",
      "nft add table inet own",
      "nft add chain inet own forward { type filter hook forward priority 0; }",
      "nft add rule inet own forward ct state invalid drop",
    ],
  ],
];
laneTest("answers pass a firewall that asks for the state of connections", async (t) => {
  const [node1] = lab().nodes;
  const clear = async (): Promise<void> => {
    await node1!.shell("iptables -P FORWARD ACCEPT; iptables -F FORWARD; nft delete table inet own");
  };
  t.teardown(clear);
  for (const [title, rules] of FIREWALLS) {
    for (const rule of rules) await node1!.exec(rule.includes("{") ? ["nft", rule.slice(4)] : rule.split(" "));
    await node1!.tryExec(["conntrack", "-F"]);
    await node1!.stopAgent(); // it looks when it starts, and then each 30 seconds
    await node1!.startAgent();
    for (const port of [FAR, NEAR]) {
      const talk = await talkFromOutside(t, node1!, port);
      await untilGoesOn(talk);
      t.is(await talk.end("SIGTERM"), 0, talk.output.slice(-500));
    }
    for (const port of [FAR_DATAGRAMS, NEAR_DATAGRAMS]) {
      const argv = [process.execPath, "-e", SEND_LENGTHS, node1!.address, `${port}`, "10", "20"];
      t.deepEqual((JSON.parse(await lab().client.exec(argv)) as { answers: number[] }).answers.length, 2, title);
    }
    t.deepEqual(await trackedBy(node1!, FAR, NEAR), [], title);
    await clear();
  }
});

laneTest("a link with strict reverse path filtering is left to nftables, and the log says so", async (t) => {
  const [node1] = lab().nodes;
  const { stdout } = await node1!.shell(`ip -o -4 address show | grep -F ' ${node1!.address}/' | awk '{print $2}'`);
  const setting = `/proc/sys/net/ipv4/conf/${stdout.trim()}/rp_filter`;
  const before = await node1!.exec(["cat", setting]);
  const set = async (value: string): Promise<void> => {
    await node1!.exec(["sh", "-c", `echo ${value.trim()} > ${setting}`]);
    await node1!.stopAgent();
    await node1!.startAgent();
  };
  await set("1");
  const talk = await talkFromOutside(t, node1!, FAR);
  await untilGoesOn(talk);
  t.regex(
    node1!.logTail(200),
    new RegExp(`clients of published ports that come by ${stdout.trim()} are led by nftables`),
  );
  t.not((await trackedBy(node1!, FAR)).length, 0);
  await set(before);
  await untilGoesOn(talk);
  t.is(await talk.end("SIGTERM"), 0, talk.output.slice(-500));
});

laneTest("the agents of both nodes are killed and started under a connection, which goes on", async (t) => {
  const { nodes } = lab();
  const talk = await talkFromOutside(t, nodes[0]!, FAR);
  await untilGoesOn(talk);
  await Promise.all(nodes.map((node) => node.killAgent()));
  const begun = new Background(lab().client.inside(program("talk", nodes[0]!.address, FAR, 1000)), lab().client.env);
  t.teardown(() => void begun.end("SIGTERM"));
  await Promise.all(nodes.map((node) => node.startAgent()));
  await untilGoesOn(talk);
  await begun.says("talking"); // its client has asked again
  t.is(await talk.end("SIGTERM"), 0, talk.output.slice(-500));
});

laneTest("a port that a process of the node has first stays the process's, there and nowhere else", async (t) => {
  const [node1, node2] = lab().nodes;
  const server = `require("net").createServer((s) => s.end("a process")).listen(7100, () => console.log("listening"))`;
  const own = new Background(node1!.inside([process.execPath, "-e", server]), node1!.env);
  t.teardown(() => void own.end("SIGKILL"));
  await own.says("listening");
  await createServer(node1!, "held", node2!, "-p", "7100:7");
  const read = `require("net").connect(7100, process.argv[1]).on("data", (d) => { console.log(String(d)); process.exit(); }).write("ask\\n")`;
  const ask = (node: LabNode): Promise<string> => lab().client.exec([process.execPath, "-e", read, node.address]);
  t.regex(await ask(node1!), /^a process/);
  t.notRegex(await ask(node2!), /^a process/);
  await own.end("SIGKILL");
  await waitFor(async () => !/^a process/.test(await ask(node1!).catch(() => "a process")), {
    what: "the mesh to answer when the process is gone",
  });
  await node1!.ctl("service", "rm", "held");
});

laneTest("a service that is removed: its connections are reset, and its port is closed", async (t) => {
  const [node1] = lab().nodes;
  await node1!.tryExec(["conntrack", "-F"]);
  for (const [service, port] of [
    ["far", FAR],
    ["near", NEAR],
  ] as const) {
    const talk = await talkFromOutside(t, node1!, port);
    await untilInLane(node1!, service);
    await node1!.ctl("service", "rm", service);
    t.is(await talk.ended(), 1);
    const ask = (): Promise<{ stderr: string }> => lab().client.tryExec(program("ask", "tcp", node1!.address, port, 1));
    await waitFor(async () => (await ask()).stderr.includes("ECONNREFUSED"), { what: "the port to be closed" });
  }
  await createServer(node1!, "next", node1!, "-p", `${FAR}:7`);
  await waitFor(async () => (await lab().client.tryExec(program("ask", "tcp", node1!.address, FAR, 1))).status === 0, {
    what: "the port's next service to answer",
  });
  t.deepEqual(await trackedBy(node1!, NEAR), []);
});
