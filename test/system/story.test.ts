// What the README has a newcomer type to make a cluster: each of its lines is run here, in its order, on nodes that are as
// new. Then the machine that leads is gone, and the newcomer goes on typing on another.
import { readFileSync } from "node:fs";
import type { ClusterStatusView } from "../../src/api/cluster-schema.ts";
import type { NodeView } from "../../src/api/schema.ts";
import { waitFor } from "./command.ts";
import { createLab, type Lab, type LabNode } from "./lab.ts";
import { loseMachine } from "./managers.ts";
import { systemTest } from "./system-test.ts";
import { undoAfterAll } from "./undo.ts";

let lab: Lab | undefined;
undoAfterAll(() => lab?.teardown());

/** The lines of a section that a person types on a node: the node's number, and the line. */
function linesOf(section: string): { node: number; line: string }[] {
  const text = readFileSync("README.md", "utf8")
    .split(/^## /m)
    .find((one) => one.startsWith(`${section}\n`));
  return [...(text ?? "").matchAll(/^node(\d)# (overlayctl .+)$/gm)].map(([, node, line]) => ({
    node: Number(node) - 1,
    line: line!,
  }));
}

const readyNodes = async (node: LabNode): Promise<NodeView[]> =>
  (await node.ctlJson<NodeView[]>("node", "ls")).filter(({ state }) => state === "ready");

systemTest(
  "a cluster of three in three commands, three managers with two more, and it outlives its leader",
  async (t) => {
    lab = await createLab({ prefix: "sty", nodeNames: ["node1", "node2", "node3"], nodes: 3 });
    const { nodes } = lab;
    const [node1, node2, node3] = nodes as [LabNode, LabNode, LabNode];
    t.teardown(() => {
      if (!t.passed) for (const node of nodes) t.log(`the end of ${node.name}'s log:\n${node.logTail()}`);
    });
    await Promise.all(nodes.map((node) => node.startAgent()));
    const lines = linesOf("Use it");
    t.deepEqual(
      lines.map(({ line }) => line.split(" ")[1]),
      ["init", "join", "join", "node", "node"],
    );
    let join = "";
    const began = performance.now();
    for (const { node, line } of lines.slice(0, 3)) {
      // The reader copies the command that `init` prints; the README shows how it begins.
      if (join !== "") t.true(join.startsWith(line.replace("...", "")), `${join} is not as the README says`);
      const { status, stdout, stderr } = await nodes[node]!.shell(join || line);
      t.is(status, 0, stderr);
      if (line.startsWith("overlayctl join")) t.is(stdout, "This node joined the cluster as a worker.\n");
      else join = /overlayctl join .*--token \S+/.exec(stdout)![0];
    }
    await waitFor(async () => (await readyNodes(node1)).length === 3, { what: "three nodes to be ready" });
    t.log(`three nodes after ${Math.round(performance.now() - began)} ms`);

    for (const { node, line } of lines.slice(3)) {
      const { status, stderr } = await nodes[node]!.shell(line);
      t.is(status, 0, stderr);
    }
    await waitFor(async () => (await readyNodes(node1)).every(({ role }) => role === "manager"), {
      what: "three managers",
    });
    await waitFor(async () => (await node1.ctlJson<ClusterStatusView>("cluster", "status")).store === "etcd", {
      what: "the state to have moved to etcd",
    });
    await node1.ctl("network", "create", "before");

    await loseMachine(node1);
    for (const [i, node] of [node2, node3].entries()) {
      await waitFor(async () => (await node.shell(`overlayctl network create after-${i}`)).status === 0, {
        what: `a write on ${node.name}`,
      });
    }
    const { stdout } = await node3.shell("overlayctl network ls");
    for (const name of ["before", "after-0", "after-1"]) t.true(stdout.includes(` ${name} `), stdout);
    await waitFor(async () => (await readyNodes(node2)).map(({ name }) => name).join() === "node2,node3", {
      what: "the lost node to be seen as down",
    });
  },
);
