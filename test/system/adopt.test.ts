// A cluster of the version before nodes had certificates goes on in this one: its state, its ids and the tasks that run. That
// version is built beside this one, and its agents run before those of this version take their places.
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { OtherBuild } from "../../bench/other-build.ts";
import type { NodeView, TaskView } from "../../src/api/schema.ts";
import { waitFor } from "./command.ts";
import { createLab, type Lab, type LabNode } from "./lab.ts";
import { writeCommand, writeConfig } from "./lab-files.ts";
import { processOf, untilRunning } from "./listings.ts";
import { program } from "./program.ts";
import { systemTest } from "./system-test.ts";
import { undoAfterAll } from "./undo.ts";

/** The last commit whose nodes have no certificates. */
const BEFORE = "18e768e";
const OWN_BUILD = fileURLToPath(new URL("../../", import.meta.url));

let lab: Lab | undefined;
let before: OtherBuild | undefined;
undoAfterAll(() => before?.remove());
undoAfterAll(() => lab?.teardown());

/** What must be the same of a task afterwards, in an order of its own. */
function lasting(tasks: readonly TaskView[]) {
  return tasks
    .map(({ id, slot, node, addresses, restarts }) => ({ id, slot, node, addresses, restarts }))
    .toSorted((a, b) => a.slot - b.slot);
}

function idsOf(nodes: readonly NodeView[]): string[] {
  return nodes.map(({ id, name, address }) => `${id} ${name} ${address}`).toSorted();
}

/** From now on commands are this version's, and the node's configuration is as this version wants it. */
function install({ directory }: Lab, node: LabNode, settings: Record<string, unknown> = {}): void {
  for (const name of ["overlayd", "overlayctl"])
    writeCommand(join(directory, "bin", name), join(OWN_BUILD, "bin", `${name}.js`));
  writeConfig(node.configPath, { name: node.name, address: node.address, directory: node.directory, settings });
}

systemTest(
  "init takes over a running cluster of the version before, and its workers join with their ids",
  async (t) => {
    before = await OtherBuild.of(BEFORE);
    lab = await createLab({ prefix: "adp", nodes: 2, build: before.dist });
    const [node1, node2] = lab.nodes as [LabNode, LabNode];
    t.teardown(() => {
      if (!t.passed) for (const node of [node1, node2]) t.log(`the end of ${node.name}'s log:\n${node.logTail()}`);
    });
    await lab.startAgents();
    await node1.ctl("network", "create", "web");
    await node1.ctl(
      ...["service", "create", "--detach", "--name", "echo", "--replicas", "2", "--network", "web"],
      ...["--", ...program("echo-server", 7)],
    );
    const running = await untilRunning(node1, "echo", 2);
    const tasks = lasting(running);
    const processIds = () => Promise.all(running.map(processOf));
    t.deepEqual(tasks.map(({ node }) => node).toSorted(), [node1.name, node2.name]);
    const processes = await processIds();
    const nodes = idsOf(await node1.api.nodes());
    const { cluster } = await node1.api.status();

    await node1.stopAgent();
    install(lab, node1, { pool: "10.192.0.0/10" });
    const refused = await node1.tryExec(["overlayd", "--config", node1.configPath]);
    t.deepEqual([refused.status, refused.stdout], [2, ""]);
    t.regex(refused.stderr, /: pool: the pool belongs to the cluster now: .*'overlayctl init --pool'/);

    install(lab, node1);
    await node1.startAgent();
    t.like(await node1.api.status(), { phase: "waiting", cluster: null });
    const init = await node1.shell("overlayctl init");
    t.is(init.status, 0, init.stderr);
    t.regex(init.stdout, /is now a manager, with all that this node's data directory had\./);
    t.is((await node1.api.status()).cluster, cluster);
    t.deepEqual(idsOf(await node1.api.nodes()), nodes);

    // The worker's agent is still the one before: it is told what to do, and its task runs on.
    const problem = await waitFor(
      async () => {
        const { problem } = await node2.api.status();
        return problem !== null && !/ECONNREFUSED/.test(problem) && problem;
      },
      { what: "the worker to be refused" },
    );
    t.regex(
      problem,
      /this manager speaks TLS only: install this version of overlayd on the node too, .*overlayctl join/,
    );
    t.deepEqual(await processIds(), processes);

    await node2.stopAgent();
    install(lab, node2);
    await node2.startAgent();
    const joined = await node2.shell(`overlayctl join ${node1.address} --token ${await lab.token("worker")}`);
    t.deepEqual([joined.status, joined.stdout], [0, "This node joined the cluster as a worker.\n"], joined.stderr);
    t.deepEqual(lasting(await untilRunning(node1, "echo", 2)), tasks);
    t.deepEqual(await processIds(), processes);
    t.deepEqual(idsOf(await node1.api.nodes()), nodes);
    for (const node of [node1, node2]) {
      const { status, stderr } = await node.container("web", program("ask", "tcp", "echo", 7, 4));
      t.is(status, 0, stderr);
    }
  },
);
