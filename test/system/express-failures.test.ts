// What may go wrong around the express lane between two agents: a full map, routes and links that change, maps of another version, calls that
// are refused. No connection ends of it. A client on node 1 talks to a server on node 2.
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import type { ExecutionContext } from "ava";
import type { FlowView } from "../../src/api/schema.ts";
import { CONTROL_SHAPE, Control, LAYOUT } from "../../src/express/layout.ts";
import { vethName } from "../../src/links/desired.ts";
import { mapArray } from "../../src/linux/bpf-array.ts";
import { openPin } from "../../src/linux/bpf-pin.ts";
import * as libc from "../../src/linux/libc.ts";
import { Background, run, tryRun, waitFor } from "./command.ts";
import type { Lab, LabNode } from "./lab.ts";
import { createServer, laneTest, talkTo, untilGoesOn, untilInLane } from "./lane-talk.ts";
import { vipOf } from "./listings.ts";
import { program } from "./program.ts";
import { useLab } from "./system-test.ts";

const PREFIX = "xfl";
/** The fewest entries that a configuration may give the map. */
const ENTRIES = 1024;
/** Each has two entries on each node. */
const MANY_FLOWS = 700;

/** Keeps so many flows of UDP busy; says how many of them have had their latest answer. Its arguments are HOST, PORT and the number. */
const KEEP_BUSY = `
const [host, port, count] = process.argv.slice(1);
const answers = Array(Number(count)).fill(0);
const sockets = answers.map((_, i) => {
  const socket = require("node:dgram").createSocket("udp4");
  socket.on("message", () => answers[i]++);
  return socket;
});
let next = 0;
setInterval(() => { for (let i = 0; i < 20; i++) sockets[next++ % count].send("a datagram", port, host); }, 5);
setInterval(() => console.log("least: " + Math.min(...answers)), 200);
`;

const lab = useLab(
  { prefix: PREFIX, nodes: 2, settings: { datapath: { express: "auto", expressFlows: ENTRIES } } },
  async ({ nodes: [node1, node2] }: Lab) => {
    await node1!.ctl("network", "create", "web");
    await createServer(node1!, "far", node2!);
  },
);

function bothNodes(): [LabNode, LabNode] {
  return lab().nodes as [LabNode, LabNode];
}

/** The log of the node's agents from now on. */
function logFromNow({ logPath }: LabNode): () => string[] {
  const from = readFileSync(logPath, "utf8").length;
  return () => readFileSync(logPath, "utf8").slice(from).split("\n");
}

async function lanePackets(node: LabNode): Promise<number> {
  return (await node.api.stats()).datapath.lanePackets!;
}

async function untilLaneCarries(node: LabNode, more = 40): Promise<void> {
  const before = await lanePackets(node);
  await waitFor(async () => (await lanePackets(node)) >= before + more, {
    what: `${node.name}'s lane to carry packets`,
  });
}

laneTest("a full map: further flows go by the agent, are counted, and enter when there is room", async (t) => {
  const [node1, node2] = bothNodes();
  const where = ["--network", "web", "--constraint", `node.name==${node2.name}`];
  await node1.ctl("service", "create", "--name", "bulk", ...where, "--", ...program("bulk", "serve", 8));
  const vip = (await vipOf(node1, "bulk"))!;
  const argv = ["overlayctl", "run", "--network", "web", "--", process.execPath, "-e", KEEP_BUSY, vip, "8"];
  const busy = new Background(node1.inside([...argv, `${MANY_FLOWS}`]), node1.env);
  t.teardown(() => void busy.end("SIGKILL"));
  const least = (): number => Number([...busy.output.matchAll(/^least: (\d+)$/gm)].at(-1)?.[1] ?? 0);
  await waitFor(() => least() >= 5, { what: "each flow to have answers" });
  const { datapath } = await node1.api.stats();
  t.true(datapath.laneRefused! > 0, `${datapath.laneRefused}`);
  t.is(datapath.laneCapacity, ENTRIES);
  t.true(datapath.laneEntries! <= ENTRIES && datapath.laneEntries! > ENTRIES / 2, `${datapath.laneEntries}`);
  const flows = await node1.api.flows({ service: "bulk", limit: 2 * MANY_FLOWS });
  const carried = flows.filter(({ lane }) => lane === "both").length;
  t.true(carried > 0 && carried < MANY_FLOWS, `${carried} of ${flows.length}`);
  const before = least();
  await waitFor(() => least() >= before + 3, { what: "the flows that are not in the lane to go on" });
  await busy.end("SIGTERM");
  await node1.ctl("service", "rm", "bulk");
  for (const node of [node1, node2])
    await waitFor(async () => (await node.api.stats()).datapath.laneEntries === 0, {
      what: `${node.name}'s lane to be empty`,
    });
  const talk = await talkTo(t, node1, (await vipOf(node1, "far"))!);
  for (const node of [node1, node2]) await untilInLane(node, "far");
  t.is(await talk.end("SIGTERM"), 0, talk.output.slice(-500));
});

laneTest("the route to a peer moves to another link and back under a connection", async (t) => {
  const [node1, node2] = bothNodes();
  const talk = await talkTo(t, node1, (await vipOf(node1, "far"))!);
  for (const node of [node1, node2]) await untilInLane(node, "far");
  const outside = `
    link add second type veth peer name eth1 netns ${node1.netns}
    link set second master br0
    link set second up`;
  await run(["ip", "-n", `${PREFIX}-switch`, "-batch", "-"], { input: outside });
  t.teardown(() => tryRun(["ip", "-n", `${PREFIX}-switch`, "link", "delete", "second"]));
  // The new link neither asks nor answers who has an address: node 2 goes on by the link that it knows.
  await node1.exec(["sysctl", "-qw", "net.ipv4.conf.eth1.arp_ignore=1"]);
  await node1.exec(["ip", "link", "set", "eth1", "up"]);
  const [{ address: mac }] = JSON.parse(await node2.exec(["ip", "-json", "link", "show", "eth0"]));
  await node1.exec(["ip", "neighbour", "add", node2.address, "lladdr", mac, "dev", "eth1", "nud", "permanent"]);
  const sent = async (): Promise<number> => {
    const [link] = JSON.parse(await node1.exec(["ip", "-json", "-statistics", "link", "show", "eth1"]));
    return link.stats64.tx.packets;
  };
  t.true((await sent()) < 40);
  await node1.exec(["ip", "route", "add", `${node2.address}/32`, "dev", "eth1", "src", node1.address]);
  await waitFor(async () => (await sent()) > 100, { what: "packets to go out by the other link" });
  await untilLaneCarries(node1);
  await untilGoesOn(talk);
  await node1.exec(["ip", "route", "delete", `${node2.address}/32`]);
  await node1.exec(["ip", "link", "delete", "eth1"]);
  await untilLaneCarries(node1);
  await untilGoesOn(talk);
  t.is(await talk.end("SIGTERM"), 0, talk.output.slice(-500));
});

laneTest("the underlay's link gets another MTU and another MAC under a connection", async (t) => {
  const [node1, node2] = bothNodes();
  const talk = await talkTo(t, node1, (await vipOf(node1, "far"))!, 5000);
  for (const node of [node1, node2]) await untilInLane(node, "far");
  for (const mtu of [1400, 1500]) {
    await node2.exec(["ip", "link", "set", "eth0", "mtu", `${mtu}`]);
    await untilLaneCarries(node2);
    await untilLaneCarries(node1);
    await untilGoesOn(talk);
  }
  // The other node hears of it at once, and not only when it asks again.
  await node2.exec(["sysctl", "-qw", "net.ipv4.conf.eth0.arp_notify=1"]);
  await node2.exec(["ip", "link", "set", "eth0", "address", "02:00:00:00:99:02"]);
  await untilGoesOn(talk);
  for (const node of [node1, node2]) await untilLaneCarries(node);
  t.is(await talk.end("SIGTERM"), 0, talk.output.slice(-500));
});

laneTest(
  "entries of another version are thrown away at an agent's start, and said once; their flows go on",
  async (t) => {
    const [node1, node2] = bothNodes();
    const talk = await talkTo(t, node1, (await vipOf(node1, "far"))!);
    for (const node of [node1, node2]) await untilInLane(node, "far");
    await node2.killAgent();
    const control = openPin(join(node2.directory, "data/bpf/overlayd/control"), "map")!;
    const { buffer, close } = mapArray(control, CONTROL_SHAPE);
    new Uint32Array(buffer)[Control.Layout >> 2] = LAYOUT - 1;
    close();
    libc.close(control);
    const log = logFromNow(node2);
    await node2.startAgent();
    const said = log().filter((line) => line.includes("flows of the agent before leave the express lane"));
    t.is(said.length, 1);
    t.regex(said[0]!, /its entries are of another version/);
    t.false(log().some((line) => line.includes("with the flows of the agent before")));
    await untilInLane(node2, "far");
    await untilGoesOn(talk);
    t.is(await talk.end("SIGTERM"), 0, talk.output.slice(-500));
  },
);

laneTest("an agent whose threads are refused what the lane takes carries all itself, and says so once", async (t) => {
  const [node1, node2] = bothNodes();
  const talk = await talkTo(t, node1, (await vipOf(node1, "far"))!);
  for (const node of [node1, node2]) await untilInLane(node, "far");
  await node2.killAgent();
  const log = logFromNow(node2);
  await node2.startAgent([
    "python3",
    fileURLToPath(new URL("../../../test/system/programs/refuse-route-queries.py", import.meta.url)),
  ]);
  const said = log().filter((line) => line.includes("no flow goes in the express lane"));
  t.is(said.length, 1, log().join("\n"));
  t.regex(said[0]!, /a thread of the data path is refused what it takes: .*EPERM/);
  const { stderr, status } = await node2.tryExec(["overlayctl", "express", "on"]);
  t.is(status, 1);
  t.regex(stderr, /this node has no express lane: a thread of the data path is refused/);
  t.regex(await node2.ctl("peers"), /off \(unavailable\)/);
  t.true((await node2.ctlJson<FlowView[]>("flows")).every(({ lane }) => lane === null));
  await untilGoesOn(talk);
  await node2.stopAgent();
  await node2.startAgent();
  await untilInLane(node2, "far");
  await untilGoesOn(talk);
  t.is(await talk.end("SIGTERM"), 0, talk.output.slice(-500));
});

/** Puts another software's program on the link; returns it, and the programs that are there then. */
async function putStranger(t: ExecutionContext, node: LabNode, link: string, ...how: string[]) {
  const [{ ifindex }] = JSON.parse(await node.exec(["ip", "-json", "link", "show", link]));
  const stranger = new Background(node.inside(program("tcx-stranger", ifindex, ...how)), node.env);
  t.teardown(() => void stranger.end("SIGKILL"));
  await stranger.says("on the link");
  const programs = JSON.parse(await node.exec(program("tcx-programs", `${link}=${ifindex}`)));
  return { stranger, programs: programs[link] as string[] };
}

laneTest(
  "other software's tcx programs on the underlay's link see every packet if they are first, and may take it",
  async (t) => {
    const [node1, node2] = bothNodes();
    const talk = await talkTo(t, node1, (await vipOf(node1, "far"))!);
    for (const node of [node1, node2]) await untilInLane(node, "far");
    const next = await putStranger(t, node2, "eth0", "next", "first");
    t.is(next.programs[0], "stranger");
    t.deepEqual(next.programs.toSorted(), ["overlay_node", "overlay_under", "stranger"]);
    for (const node of [node1, node2]) await untilLaneCarries(node);
    await node2.killAgent();
    await node2.startAgent();
    await untilLaneCarries(node2);
    await next.stranger.end("SIGKILL");
    const pass = await putStranger(t, node2, "eth0", "pass", "first");
    await untilGoesOn(talk); // past the lane's program, by the agent
    await pass.stranger.end("SIGKILL");
    const drop = await putStranger(t, node2, "eth0", "drop", "first");
    await waitFor(async () => (await node2.api.peers())[0]!.state === "down", { what: "nothing to arrive" });
    await drop.stranger.end("SIGKILL");
    await untilGoesOn(talk);
    for (const node of [node1, node2]) await untilLaneCarries(node);
    t.is(await talk.end("SIGTERM"), 0, talk.output.slice(-500));
  },
);

laneTest(
  "behind the lane's program another one gets what the lane passes on, and nothing of what it carries",
  async (t) => {
    const [node1, node2] = bothNodes();
    const talk = await talkTo(t, node1, (await vipOf(node1, "far"))!);
    const { client } = await untilInLane(node1, "far");
    await untilInLane(node2, "far");
    const link = vethName(client.split(":")[0]!);
    const { stranger, programs } = await putStranger(t, node1, link, "drop", "last");
    t.deepEqual(programs, ["overlay_cont", "stranger"]);
    await untilLaneCarries(node1, 100);
    await untilGoesOn(talk, 100);
    await stranger.end("SIGKILL");
    await untilGoesOn(talk);
    t.is(await talk.end("SIGTERM"), 0, talk.output.slice(-500));
  },
);
