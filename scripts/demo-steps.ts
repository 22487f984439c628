// The demo's story: a service of three tasks, by name, by its published port on every node, and with one task killed.
import { setTimeout as delay } from "node:timers/promises";
import type { PeerView, TaskView } from "../src/api/schema.ts";
import { waitFor } from "../test/system/command.ts";
import { CLIENT_ADDRESS, type Lab, type LabNode } from "../test/system/lab.ts";
import { MAX_SKEW, nodeView, processOf, runningTasks, untilRunning, vipOf } from "../test/system/listings.ts";
import type { Terminal } from "./terminal.ts";

const REQUESTS = 30;
/** Nodes stop choosing a task whose process died within this time. */
const NOTICED_MS = 1000;

/** Three agents that wait, and three commands. */
async function showCluster(terminal: Terminal, { nodes }: Lab): Promise<void> {
  const [node1, ...others] = nodes as [LabNode, ...LabNode[]];
  terminal.say(
    "Three nodes, each with its agent. The first begins a cluster, and prints the command with which others join.",
  );
  for (const { name, configPath } of nodes) console.log(`${name}$ overlayd --config ${configPath} &`);
  await Promise.all(nodes.map((node) => node.startAgent()));
  const began = await terminal.type("node1", node1, `overlayctl init --advertise ${node1.address}`);
  const join = /overlayctl join .*--token \S+/.exec(began.stdout)?.[0] ?? "overlayctl join";
  for (const node of others) {
    const joined = await terminal.type(node.name, node, join);
    terminal.check(`${node.name} joins the cluster`, joined.status === 0);
  }
  const listed = await terminal.type("node1", node1, "overlayctl node ls");
  terminal.check("three nodes are ready", listed.stdout.match(/ Ready /g)?.length === nodes.length);
}

export async function showService(terminal: Terminal, lab: Lab): Promise<void> {
  const [node1, node2, node3] = lab.nodes as [LabNode, LabNode, LabNode];

  await showCluster(terminal, lab);

  terminal.say("A network, and on it a service with three tasks and a published port.");
  const network = await terminal.type("node1", node1, "overlayctl network create web");
  terminal.check("the network is created", network.status === 0);
  const create =
    'overlayctl service create --name search --replicas 3 -p 9200:9200 --network web --workdir "$PWD" -- node configs/search-server.js';
  const created = await terminal.type("node1", node1, create);
  terminal.check("the service converges", created.status === 0);
  await terminal.type("node1", node1, "overlayctl service ps search");
  const tasks = await runningTasks(node1, "search");
  terminal.check("each node runs one task", new Set(tasks.map(({ node }) => node)).size === 3, tasks);

  terminal.say("Its name is answered with one virtual IP.");
  const dig = await terminal.type("node2", node2, "overlayctl run --network web -- dig +short search");
  const vip = await vipOf(node2, "search");
  terminal.check("the answer is the service's virtual IP", dig.stdout.trim() === vip, dig.stdout.trim());

  terminal.say(`${REQUESTS} requests from a container: every task gets its share.`);
  const shares = await terminal.type(
    "node3",
    node3,
    `overlayctl run --network web -- curl -s -H 'Connection: close' 'http://search:9200/?[1-${REQUESTS}]' | grep '"name"' | sort | uniq -c`,
  );
  const counts = shares.stdout
    .trim()
    .split("\n")
    .map((line) => Number.parseInt(line, 10));
  terminal.check(`${REQUESTS} requests are answered`, counts.reduce((sum, n) => sum + n, 0) === REQUESTS, counts);
  const isShared = counts.length === 3 && counts.every((n) => Math.abs(n - REQUESTS / 3) <= MAX_SKEW);
  terminal.check("each task answers about a third", isShared, counts);

  terminal.say("From outside, every node answers, and the task sees the client's own address.");
  await terminal.type("client", lab.client, `curl -s http://${node1.address}:9200`);
  for (const node of lab.nodes) {
    const line = `curl -s http://${node.address}:9200 | grep -E '"(name|client)"'`;
    const { stdout } = await terminal.type("client", lab.client, line);
    terminal.check(`${node.name} answers, and the task saw ${CLIENT_ADDRESS}`, clientIn(stdout) === CLIENT_ADDRESS);
  }

  terminal.say("On every node's localhost as well; there the task sees the node's address on the overlay.");
  for (const node of lab.nodes) {
    const line = `curl -s http://localhost:9200 | grep -E '"(name|client)"'`;
    const { stdout } = await terminal.type(node.name, node, line);
    const { ingressAddress: own } = await nodeView(node);
    terminal.check(`${node.name}'s localhost answers, and the task saw ${own}`, clientIn(stdout) === own, stdout);
  }

  terminal.say("What node1 knows of its peers.");
  await terminal.type("node1", node1, "overlayctl peers");
  const peers = await node1.ctlJson<PeerView[]>("peers");
  const up = peers.filter(({ name, state }) => name !== "node1" && state === "up");
  terminal.check("both peers are up", up.length === 2, peers);

  await showKilledTask(terminal, lab, tasks[0]!);
}

async function showKilledTask(terminal: Terminal, lab: Lab, victim: TaskView): Promise<void> {
  const [node1] = lab.nodes as [LabNode];
  const host = lab.nodes.find(({ name }) => name === victim.node)!;

  terminal.say("One task is killed while requests go on from outside.");
  const requests = requestsFor(lab, 3000);
  await delay(300);
  await terminal.type(host.name, host, `kill -9 ${await processOf(victim)}`);
  const killedAt = performance.now();
  const outcomes = await requests;
  const lost = outcomes.filter(({ answered }) => !answered);
  const late = lost.filter(({ at }) => at > killedAt + NOTICED_MS);
  console.log(`${outcomes.length} requests, ${lost.length} of them lost in the moment of the kill`);
  terminal.check("requests go on", outcomes.length > 10 && late.length === 0, late);

  const restarted = await waitFor(
    async () => (await untilRunning(node1, "search", 3)).find((task) => task.slot === victim.slot && task.restarts > 0),
    { what: "the task to be started again" },
  );
  await terminal.type("node1", node1, "overlayctl service ps search");
  terminal.check("the task was started again", restarted.restarts > 0);
}

/** Requests one after another for some time, to one node after another. */
async function requestsFor(lab: Lab, ms: number): Promise<{ at: number; answered: boolean }[]> {
  const outcomes = [];
  const end = performance.now() + ms;
  for (let i = 0; performance.now() < end; i++) {
    const { address } = lab.nodes[i % lab.nodes.length]!;
    const at = performance.now();
    const { status } = await lab.client.tryExec(["curl", "-s", "-m", "2", `http://${address}:9200`]);
    outcomes.push({ at, answered: status === 0 });
  }
  return outcomes;
}

function clientIn(page: string): string | undefined {
  return /"client": "([^"]+)"/.exec(page)?.[1];
}
