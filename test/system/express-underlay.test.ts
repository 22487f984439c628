// The express lane over underlays that do less than a veth, between two agents: links that cut frames before they send them. A client on
// node 1 talks to a server on node 2, and every byte is checked.
import type { PeerView } from "../../src/api/schema.ts";
import { vethName } from "../../src/links/desired.ts";
import { run, waitFor } from "./command.ts";
import type { Lab, LabNode } from "./lab.ts";
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
