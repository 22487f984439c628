// The express lane between two agents: which flows go in it and leave it, and that nothing that happens to an agent or to its lane
// ends a connection. A client on node 1 talks to a server on node 2, and to one on its own node.
import { existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { isDeepStrictEqual } from "node:util";
import type { FlowView, PeerView } from "../../src/api/schema.ts";
import { Background, run, waitFor } from "./command.ts";
import { CLIENT_ADDRESS, type Lab, type LabNode } from "./lab.ts";
import { answersOf, createServer, laneTest, talkTo, untilGoesOn, untilInLane } from "./lane-talk.ts";
import { addressOf, namespaceOf, untilRunning, vipOf } from "./listings.ts";
import { program } from "./program.ts";
import { useLab } from "./system-test.ts";

const PREFIX = "xpr";
/** Packets that may come to an agent while a flow of many is in the lane: handshakes, ends, and what the lane passes on. */
const MOST_BESIDE = 200;

/** A client of a server that sends back datagrams; its arguments are HOST and PORT. */
const SEND_DATAGRAMS = `
const [host, port] = process.argv.slice(1);
const socket = require("node:dgram").createSocket("udp4");
let answers = 0;
socket.on("message", () => console.log("answers: " + ++answers));
setInterval(() => socket.send("a datagram", port, host), 20);
`;

/** Takes datagrams and answers none; says its address, and how many came. */
const TAKE_DATAGRAMS = `
const socket = require("node:dgram").createSocket("udp4");
let taken = 0;
socket.on("message", () => console.log("taken: " + ++taken));
socket.bind(9, () => console.log("address: " + require("node:os").networkInterfaces().eth0[0].address));
`;

const lab = useLab(
  { prefix: PREFIX, nodes: 2, settings: { datapath: { express: "auto", expressFlows: 16_384 } } },
  async ({ nodes: [node1, node2] }: Lab) => {
    await node1!.ctl("network", "create", "web");
    await createServer(node1!, "far", node2!);
    await createServer(node1!, "near", node1!);
  },
);

async function passedToAgent({ api }: LabNode): Promise<number> {
  const { datapath } = await api.stats();
  const counts = Object.entries(datapath).filter(([name]) => name.startsWith("laneFromContainer"));
  return counts.reduce((sum, [, count]) => sum + count, 0);
}

for (const [way, service, addressFor] of [
  ["through a VIP to another node", "far", (node: LabNode) => vipOf(node, "far")],
  ["to a task of another node", "far", async (node: LabNode) => addressOf((await untilRunning(node, "far", 1))[0]!)],
  ["through a VIP on one node", "near", (node: LabNode) => vipOf(node, "near")],
] as const) {
  laneTest(`a connection ${way} goes in the lane, and leaves it at its end`, async (t) => {
    const [node1, node2] = lab().nodes;
    const talk = await talkTo(t, lab().nodes[0]!, (await addressFor(node1!))!);
    const ends = service === "far" ? [node1!, node2!] : [node1!];
    for (const node of ends) await untilInLane(node, service);
    const [carried, passed] = [(await node1!.api.stats()).datapath.lanePackets!, await passedToAgent(node1!)];
    await untilGoesOn(talk, 100);
    const { datapath } = await node1!.api.stats();
    t.true(datapath.lanePackets! >= carried + 100, `${datapath.lanePackets} after ${carried}`);
    t.true((await passedToAgent(node1!)) - passed < MOST_BESIDE);
    t.is(await talk.end("SIGTERM"), 0, talk.output.slice(-500));
    for (const node of ends) {
      await waitFor(async () => (await node.api.flows({ service, limit: 1000 })).every(({ lane }) => lane === null), {
        what: `the flow to leave ${node.name}'s lane`,
      });
    }
  });
}

laneTest("datagrams through a VIP go in the lane, and those of every length come back as they were", async (t) => {
  const [node1, node2] = lab().nodes;
  const where = ["--network", "web", "--constraint", `node.name==${node2!.name}`];
  await node1!.ctl("service", "create", "--name", "bulk", ...where, "--", ...program("bulk", "serve", 8));
  const vip = (await vipOf(node1!, "bulk"))!;
  const { status, stderr } = await node1!.container("web", program("bulk", "ask", vip, 8, 4000, 3_000_000));
  t.is(status, 0, stderr);
  const argv = ["overlayctl", "run", "--network", "web", "--", process.execPath, "-e", SEND_DATAGRAMS, vip, "8"];
  const talk = new Background(node1!.inside(argv), node1!.env);
  t.teardown(() => void talk.end("SIGTERM"));
  for (const node of [node1!, node2!]) await untilInLane(node, "bulk", "udp");
  await untilGoesOn(talk);
  await talk.end("SIGTERM");
  await node1!.ctl("service", "rm", "bulk");
});

laneTest("datagrams in one direction, which nothing answers, go in both lanes", async (t) => {
  const [node1, node2] = lab().nodes;
  const start = (node: LabNode, code: string, ...argv: string[]): Background => {
    const words = ["overlayctl", "run", "--network", "web", "--", process.execPath, "-e", code, ...argv];
    const background = new Background(node.inside(words), node.env);
    t.teardown(() => void background.end("SIGTERM"));
    return background;
  };
  const receiver = start(node2!, TAKE_DATAGRAMS);
  await receiver.says("address: ");
  const address = /address: (\S+)/.exec(receiver.output)![1]!;
  start(node1!, SEND_DATAGRAMS, address, "9");
  const flowAt = async (node: LabNode): Promise<FlowView | undefined> =>
    (await node.api.flows({ limit: 1000 })).find(({ target }) => target === `${address}:9`);
  for (const [node, lane] of [
    [node1!, "both"], // answers would go in it too
    [node2!, "client"],
  ] as const) {
    await waitFor(async () => (await flowAt(node))?.lane === lane, { what: `the flow to be in ${node.name}'s lane` });
  }
  const carried = (await node2!.api.stats()).datapath.lanePackets!;
  const taken = (): number => Number([...receiver.output.matchAll(/^taken: (\d+)$/gm)].at(-1)?.[1] ?? 0);
  const before = taken();
  await waitFor(() => taken() >= before + 40, { what: "datagrams to arrive by the lane" });
  t.true((await node2!.api.stats()).datapath.lanePackets! >= carried + 40);
  t.is((await flowAt(node1!))!.state, "unreplied");
});

laneTest("a peer's line says that flows to it go in the lane", async (t) => {
  const [node1] = lab().nodes;
  const [peer] = await node1!.ctlJson<PeerView[]>("peers");
  t.is(peer!.lane, "on");
});

laneTest("the lane is turned off and on under a connection, which goes on", async (t) => {
  const [node1] = lab().nodes;
  const talk = await talkTo(t, lab().nodes[0]!, (await vipOf(node1!, "far"))!);
  await untilInLane(node1!, "far");
  t.regex(await node1!.ctl("express", "off"), /^Flows have left the express lane/);
  await untilGoesOn(talk);
  const flows = await node1!.ctlJson<FlowView[]>("flows", "--service", "far");
  t.true(flows.every(({ lane }) => lane === null));
  t.regex(await node1!.ctl("peers"), /off \(switched-off\)/);
  await node1!.ctl("express", "on");
  await untilInLane(node1!, "far");
  await untilGoesOn(talk);
  t.is(await talk.end("SIGTERM"), 0, talk.output.slice(-500));
});

laneTest("a node whose lane is off takes what the other's lane sends it, super-packets too", async (t) => {
  const [node1, node2] = lab().nodes;
  await node2!.ctl("express", "off");
  const talk = await talkTo(t, lab().nodes[0]!, (await vipOf(node1!, "far"))!, 300_000);
  await untilInLane(node1!, "far");
  const carried = (await node1!.api.stats()).datapath.laneBytes!;
  await untilGoesOn(talk);
  const bytes = (await node1!.api.stats()).datapath.laneBytes! - carried;
  t.true(bytes > 10 * 300_000, `${bytes} bytes by the first node's lane`);
  t.true((await node2!.ctlJson<FlowView[]>("flows", "--service", "far")).every(({ lane }) => lane === null));
  const { drops } = await node2!.api.stats();
  t.deepEqual([drops["bad-transport-checksum"], drops["too-big"], drops["bad-super-packet"]], [0, 0, 0]);
  await node2!.ctl("express", "on");
  await untilInLane(node2!, "far");
  await untilGoesOn(talk);
  t.is(await talk.end("SIGTERM"), 0, talk.output.slice(-500));
});

for (const how of ["killAgent", "stopAgent"] as const) {
  laneTest(
    `${how}: while both agents are away a connection goes on, and the next agents have it in their lanes`,
    async (t) => {
      const [node1, node2] = lab().nodes;
      const talk = await talkTo(t, lab().nodes[0]!, (await vipOf(node1!, "far"))!);
      for (const node of [node1!, node2!]) await untilInLane(node, "far");
      await Promise.all([node1!, node2!].map((node) => node[how]()));
      await untilGoesOn(talk, 40);
      await Promise.all([node1!, node2!].map((node) => node.startAgent()));
      t.regex(readFileSync(node2!.logPath, "utf8"), /with the flows of the agent before/);
      for (const node of [node1!, node2!]) await untilInLane(node, "far");
      await untilGoesOn(talk);
      t.is(await talk.end("SIGTERM"), 0, talk.output.slice(-500));
    },
  );
}

laneTest("one agent is away until its peer counts it as down, and the connection goes on in both lanes", async (t) => {
  const [node1, node2] = lab().nodes;
  const talk = await talkTo(t, node1!, (await vipOf(node1!, "far"))!);
  for (const node of [node1!, node2!]) await untilInLane(node, "far");
  await node2!.killAgent();
  await waitFor(async () => (await node1!.ctlJson<PeerView[]>("peers"))[0]!.state === "down", {
    what: "the killed agent's peer to miss it",
  });
  const carried = (await node1!.api.stats()).datapath.lanePackets!;
  await untilGoesOn(talk, 40);
  t.true((await node1!.api.stats()).datapath.lanePackets! >= carried + 40);
  await node2!.startAgent();
  await untilInLane(node2!, "far");
  await untilGoesOn(talk);
  t.is(await talk.end("SIGTERM"), 0, talk.output.slice(-500));
});

laneTest("a task that dies resets its connection in the lane", async (t) => {
  const [node1, node2] = lab().nodes;
  const talk = await talkTo(t, lab().nodes[0]!, (await vipOf(node1!, "far"))!);
  await untilInLane(node1!, "far");
  const [task] = await untilRunning(node1!, "far", 1);
  await node2!.shell(`kill -9 $(ip netns pids ${namespaceOf(task!)})`);
  t.is(await talk.ended(), 1);
  await untilRunning(node1!, "far", 1);
});

laneTest("no packet of a connection passes once its service is removed", async (t) => {
  const [node1, node2] = lab().nodes;
  const pins = pinsOf(node2!);
  await createServer(node1!, "gone", node2!);
  const talk = await talkTo(t, lab().nodes[0]!, (await vipOf(node1!, "gone"))!);
  await untilInLane(node1!, "gone");
  await node1!.ctl("service", "rm", "gone");
  t.is(await talk.ended(), 1);
  t.true(answersOf(talk) > 0, talk.output.slice(-500));
  const flows = await node2!.ctlJson<FlowView[]>("flows");
  t.true(
    flows.every(({ lane }) => lane === null),
    JSON.stringify(flows),
  );
  await untilEmpty(lab().nodes);
  await waitFor(() => isDeepStrictEqual(pinsOf(node2!), pins), { what: "the task's pin to go" });
});

laneTest("a container's link that is removed under a connection is made anew, and the lane is on it", async (t) => {
  const [node1, node2] = lab().nodes;
  const [task] = await untilRunning(node1!, "far", 1);
  const link = `ovl${addressOf(task!).split(".").map(hexOf).join("")}`;
  const before = await linkOf(node2!, link);
  await node2!.exec(["ip", "link", "delete", link]);
  const after = await waitFor(
    async () => {
      const found = await linkOf(node2!, link);
      return found !== before && found;
    },
    { what: "the link to be made anew" },
  );
  await waitFor(async () => (await tcxOf(node2!, after)).length === 1, { what: "the program to be on the new link" });
  const talk = await talkTo(t, lab().nodes[0]!, (await vipOf(node1!, "far"))!);
  await untilInLane(node2!, "far");
  await untilGoesOn(talk);
  t.is(await talk.end("SIGTERM"), 0, talk.output.slice(-500));
  const pins = readdirSync(join(node2!.directory, "data/bpf/overlayd"));
  t.false(pins.includes(`container-${before.split("=")[1]}`), "nothing is left of the old link");
});

laneTest("the underlay's link is made anew under a connection, and the lane follows it", async (t) => {
  const [node1, node2] = lab().nodes;
  const talk = await talkTo(t, lab().nodes[0]!, (await vipOf(node1!, "far"))!);
  for (const node of [node1!, node2!]) await untilInLane(node, "far");
  const before = await underlayOf(node2!);
  await replaceUnderlay(node2!);
  const after = await underlayOf(node2!);
  t.not(after, before);
  await waitFor(async () => (await tcxOf(node2!, after)).length === 2, { what: "the programs to be on the new link" });
  await untilGoesOn(talk);
  const lanePackets = async (): Promise<number> => (await node2!.api.stats()).datapath.lanePackets!;
  const carried = await lanePackets();
  await waitFor(async () => (await lanePackets()) >= carried + 40, { what: "the lane to carry both directions again" });
  t.is(await talk.end("SIGTERM"), 0, talk.output.slice(-500));
});

laneTest("with another size of the map, connections go on by the agent until they are in the new one", async (t) => {
  const [node1, node2] = lab().nodes;
  const talk = await talkTo(t, lab().nodes[0]!, (await vipOf(node1!, "far"))!);
  await untilInLane(node2!, "far");
  await node2!.killAgent();
  rewriteConfig(node2!, "expressFlows: 16384", "expressFlows: 8192");
  await node2!.startAgent();
  t.regex(node2!.logTail(40), /"count":8192,"msg":"the express lane is open"/);
  t.is((await tcxOf(node2!, await underlayOf(node2!))).length, 2);
  await untilInLane(node2!, "far");
  t.is((await node2!.api.stats()).datapath.laneCapacity, 8192);
  await untilGoesOn(talk);
  t.is(await talk.end("SIGTERM"), 0, talk.output.slice(-500));
});

laneTest("an agent whose configuration turns the lane off takes away what the one before left", async (t) => {
  const [node1, node2] = lab().nodes;
  const talk = await talkTo(t, lab().nodes[0]!, (await vipOf(node1!, "far"))!);
  await untilInLane(node2!, "far");
  await node2!.killAgent();
  rewriteConfig(node2!, "express: auto", "express: off");
  await node2!.startAgent();
  t.deepEqual(await tcxOf(node2!, await underlayOf(node2!)), []);
  await untilGoesOn(talk);
  t.deepEqual(
    (await node2!.api.flows({ service: "far", limit: 1000 })).filter(({ lane }) => lane !== null),
    [],
  );
  const { stderr, status } = await node2!.tryExec(["overlayctl", "express", "on"]);
  t.is(status, 1);
  t.regex(
    stderr,
    /this node has no express lane: 'datapath.express' is off in the node's configuration; set it to auto/,
  );
  rewriteConfig(node2!, "express: off", "express: auto");
  await node2!.stopAgent();
  await node2!.startAgent();
  await untilInLane(node2!, "far");
  t.is(await talk.end("SIGTERM"), 0, talk.output.slice(-500));
});

laneTest(
  "without the capabilities the agent says once what it lacks, and nothing of the lane is left in force",
  async (t) => {
    const [node1, node2] = lab().nodes;
    const underlay = await underlayOf(node2!);
    t.is((await tcxOf(node2!, underlay)).length, 2);
    await node2!.stopAgent();
    await node2!.startAgent(["setpriv", "--bounding-set", "-bpf,-sys_admin"]);
    const log = node2!.logTail(40).split("\n");
    const said = log.filter((line) => line.includes("no flow goes in the express lane"));
    t.is(said.length, 1);
    t.regex(said[0]!, /the process lacks CAP_BPF \(in a container: --cap-add BPF/);
    await waitFor(async () => (await tcxOf(node2!, underlay)).length === 0, { what: "the programs to go" });
    const { stderr } = await node2!.tryExec(["overlayctl", "express", "on"]);
    t.regex(stderr, /this node has no express lane: the process lacks CAP_BPF/);
    await node2!.killAgent(); // without CAP_SYS_ADMIN it does not come by its tasks, and does not end
    rewriteConfig(node2!, "express: auto", "express: off");
    await node2!.startAgent(["setpriv", "--bounding-set", "-bpf,-sys_admin"]);
    t.regex(node2!.logTail(40), /the express lane's file system stays mounted, without pins/);
    await node2!.killAgent();
    rewriteConfig(node2!, "express: off", "express: auto");
    await node2!.startAgent();
    t.is((await tcxOf(node2!, underlay)).length, 2);
    await untilRunning(node1!, "far", 1);
  },
);

laneTest(
  "a container whose command is killed under its connection leaves no entry and no pin on either node",
  async (t) => {
    const nodes = lab().nodes;
    await untilEmpty(nodes);
    const before = nodes.map(pinsOf);
    const talk = await talkTo(t, nodes[0]!, (await vipOf(nodes[0]!, "far"))!);
    for (const node of nodes) await untilInLane(node, "far");
    t.is(pinsOf(nodes[0]!).length, before[0]!.length + 1);
    await talk.end("SIGKILL");
    await untilEmpty(nodes);
    await waitFor(() => isDeepStrictEqual(nodes.map(pinsOf), before), { what: "the container's pin to go" });
    t.pass();
  },
);

laneTest("'overlayd down' and 'overlayctl leave' leave no program, pin or mount of the lane", async (t) => {
  const [, node2] = lab().nodes;
  const bpf = join(node2!.directory, "data/bpf");
  const underlay = await underlayOf(node2!);
  const isThere = async (): Promise<boolean> =>
    existsSync(join(bpf, "overlayd/flows")) && (await tcxOf(node2!, underlay)).length === 2;
  const isGone = async (): Promise<void> => {
    t.deepEqual(await tcxOf(node2!, underlay), []);
    t.deepEqual(existsSync(bpf) ? readdirSync(bpf) : [], []);
    t.false(readFileSync("/proc/self/mounts", "utf8").includes(bpf));
  };
  t.true(await isThere());
  await node2!.stopAgent();
  t.true(await isThere(), "what is pinned stays while no agent runs");
  await node2!.exec(["overlayd", "down", "--config", node2!.configPath]);
  await isGone();
  await node2!.startAgent();
  await waitFor(isThere, { what: "the lane to be there again" });
  await node2!.ctl("leave", "--force");
  await isGone();
});

/** The underlay's link, as NAME=INDEX. */
async function underlayOf(node: LabNode): Promise<string> {
  const links = JSON.parse(await node.exec(["ip", "-json", "-4", "address", "show"])) as {
    ifname: string;
    ifindex: number;
    addr_info: { local: string }[];
  }[];
  const { ifname, ifindex } = links.find(({ addr_info }) => addr_info.some(({ local }) => local === node.address))!;
  return `${ifname}=${ifindex}`;
}

/** A link as NAME=INDEX. */
async function linkOf(node: LabNode, name: string): Promise<string> {
  const [link] = JSON.parse(await node.exec(["ip", "-json", "link", "show", "dev", name])) as { ifindex: number }[];
  return `${name}=${link!.ifindex}`;
}

/** The machine's card is taken out, and another one has its place and address. */
async function replaceUnderlay({ netns, address }: LabNode): Promise<void> {
  const port = `p${address.split(".").at(-1)}`;
  const outside = `
    link delete ${port}
    link add ${port} type veth peer name eth0 netns ${netns}
    link set ${port} master br0
    link set ${port} up`;
  await run(["ip", "-n", `${PREFIX}-switch`, "-batch", "-"], { input: outside });
  const inside = `
    link set eth0 up
    address add ${address}/24 dev eth0
    route add default via ${CLIENT_ADDRESS}`;
  await run(["ip", "-n", netns, "-batch", "-"], { input: inside });
}

function hexOf(byte: string): string {
  return Number(byte).toString(16).padStart(2, "0");
}

/** Waits until there is no entry in the lanes' maps. */
async function untilEmpty(nodes: readonly LabNode[]): Promise<void> {
  for (const { name, api } of nodes)
    await waitFor(async () => (await api.stats()).datapath.laneEntries === 0, { what: `${name}'s lane to be empty` });
}

function pinsOf({ directory }: LabNode): string[] {
  return readdirSync(join(directory, "data/bpf/overlayd")).toSorted();
}

function rewriteConfig({ configPath }: LabNode, from: string, to: string): void {
  writeFileSync(configPath, readFileSync(configPath, "utf8").replace(from, to));
}

async function tcxOf(node: LabNode, link: string): Promise<string[]> {
  const names = JSON.parse(await node.exec(program("tcx-programs", link))) as Record<string, string[]>;
  return Object.values(names)[0]!;
}
