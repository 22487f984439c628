// The express lane over underlays that do less than a veth, between two agents: links that cut frames before they send them. A client on
// node 1 talks to a server on node 2, and every byte is checked.
import { readFileSync } from "node:fs";
import type { PeerView } from "../../src/api/schema.ts";
import { vethName } from "../../src/links/desired.ts";
import { run, waitFor } from "./command.ts";
import { type Lab, LabHost, type LabNode } from "./lab.ts";
import { createServer, laneTest, talkTo, untilGoesOn, untilInLane } from "./lane-talk.ts";
import { addressOf, namespaceOf, untilRunning, vipOf } from "./listings.ts";
import { useLab } from "./system-test.ts";

/** Bytes of a line that is many segments. */
const LINE_BYTES = 200_000;

const lab = useLab(
  { prefix: "xun", nodes: 2, settings: { datapath: { express: "auto", expressFlows: 16_384 } } },
  async ({ nodes: [node1, node2] }: Lab) => {
    await node1!.ctl("network", "create", "web");
    await createServer(node1!, "far", node2!);
  },
);

async function turn(node: LabNode, state: "on" | "off", ...features: string[]): Promise<void> {
  await node.exec(["ethtool", "-K", "eth0", ...features.flatMap((feature) => [feature, state])]);
}

function untilDelivers(node: LabNode, delivery: PeerView["laneDelivery"]): Promise<unknown> {
  return waitFor(async () => (await node.api.peers())[0]!.laneDelivery === delivery, {
    what: `${node.name}'s lane to deliver ${delivery}`,
  });
}

/** Whether the link of the service's task joins what comes singly: by its two ends. */
async function linkJoins(node: LabNode, service: string): Promise<[atContainer: boolean, atHost: boolean]> {
  const [task] = await untilRunning(lab().nodes[0]!, service, 1);
  const container = await run(["ip", "netns", "exec", namespaceOf(task!), "ethtool", "-k", "eth0"]);
  const host = await node.exec(["ethtool", "-k", vethName(addressOf(task!))]);
  return [/^generic-receive-offload: on$/m.test(container), /^tcp-segmentation-offload: off$/m.test(host)];
}

laneTest("the underlay's features change under a connection: links join segments where they come singly", async (t) => {
  const [node1, node2] = lab().nodes as [LabNode, LabNode];
  const talk = await talkTo(t, node1, (await vipOf(node1, "far"))!, LINE_BYTES);
  for (const node of [node1, node2]) await untilInLane(node, "far");
  t.is((await node2.api.peers())[0]!.laneDelivery, "at-once");
  t.deepEqual(await linkJoins(node2, "far"), [false, false]);
  for (const feature of ["tso", "gso", "tx-udp_tnl-segmentation"]) {
    await turn(node2, "off", feature);
    await untilDelivers(node2, "by-link");
    t.deepEqual(await linkJoins(node2, "far"), [true, true]);
    await untilGoesOn(talk); // from a node that leaves super-packets whole
    await turn(node2, "on", feature);
    await untilDelivers(node2, "at-once");
    t.deepEqual(await linkJoins(node2, "far"), [false, false]);
    await untilGoesOn(talk);
  }
  for (const node of [node1, node2]) {
    await turn(node, "off", "tso", "gso", "tx-udp_tnl-segmentation");
    await untilDelivers(node, "by-link");
  }
  t.regex(await node1.ctl("peers"), / on \(by-link\) /);
  await untilGoesOn(talk);
  await createServer(node1, "later", node2);
  t.deepEqual(await linkJoins(node2, "later"), [true, true], "a container that comes later");
  await node2.killAgent();
  await turn(node2, "on", "tso", "gso", "tx-udp_tnl-segmentation");
  await node2.startAgent();
  await untilDelivers(node2, "at-once");
  for (const service of ["far", "later"]) t.deepEqual(await linkJoins(node2, service), [false, false]);
  await untilGoesOn(talk); // from a node that cuts them
  await turn(node1, "on", "tso", "gso", "tx-udp_tnl-segmentation");
  await untilDelivers(node1, "at-once");
  await untilGoesOn(talk);
  t.is(await talk.end("SIGTERM"), 0, talk.output.slice(-500));
  await node1.ctl("service", "rm", "later");
});

/** Between the nodes, drops what a lane sends from the one behind this port: VXLAN frames with outer UDP checksum 0. Agents' frames have one. */
const filterAt = (port: string): string => `
add table netdev filter4789
add chain netdev filter4789 input { type filter hook ingress device ${port} priority 0; }
add rule netdev filter4789 input udp dport 4789 udp checksum 0 counter drop
`;

for (const [title, from] of [
  ["the client's node", 0],
  ["the server's node", 1],
] as const) {
  laneTest(
    `a filter drops what the lane of ${title} sends: the connection goes on by the agents, and the peer is named`,
    async (t) => {
      const [node1, node2] = lab().nodes as [LabNode, LabNode];
      const sender = lab().nodes[from]!;
      const receiver = lab().nodes[1 - from]!;
      const between = new LabHost("xun-switch", "");
      const before = readFileSync(sender.logPath, "utf8").length;
      const talk = await talkTo(t, node1, (await vipOf(node1, "far"))!, 5000);
      for (const node of [node1, node2]) await untilInLane(node, "far");
      const port = `p${sender.address.split(".").at(-1)}`;
      await between.exec(["nft", "-f", "-"], { input: filterAt(port) });
      const remove = ["nft", "delete", "table", "netdev", "filter4789"];
      t.teardown(() => between.tryExec(remove));
      await untilGoesOn(talk);
      t.regex(await between.exec(["nft", "list", "ruleset"]), /packets [1-9]/, "frames of the lane were dropped");
      await waitFor(async () => (await sender.api.peers())[0]!.laneReason === "stalled", {
        what: `${sender.name} to say that its lane is at fault`,
      });
      t.regex(await sender.ctl("peers"), /off \(stalled\)/);
      t.true((await sender.api.stats()).datapath.laneStalls! >= 1);
      const said = readFileSync(sender.logPath, "utf8").slice(before).split("\n");
      const named = said.filter((line) => line.includes("stall in the express lane"));
      t.is(named.length, 1, said.join("\n"));
      t.true(named[0]!.includes(`"node":"${receiver.name}"`) && named[0]!.includes("overlayctl express on"), named[0]);
      const another = await talkTo(t, node1, (await vipOf(node1, "far"))!);
      await untilGoesOn(another);
      t.is(await another.end("SIGTERM"), 0, "new connections do not enter it");
      await between.exec(remove);
      for (const node of [node1, node2]) await node.ctl("express", "on");
      for (const node of [node1, node2]) await untilInLane(node, "far");
      await untilGoesOn(talk);
      t.is(await talk.end("SIGTERM"), 0, talk.output.slice(-500));
    },
  );
}
