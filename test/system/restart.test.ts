// An agent that is killed or stopped and started again keeps what it finds. Connections of containers of every kind go on,
// over the links that they had.
import { copyFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import type { ExecutionContext } from "ava";
import type { EndpointView } from "../../src/api/schema.ts";
import { Background, run, tryRun, waitFor } from "./command.ts";
import { BASE_IMAGE, EngineDoor, whyNoEngine } from "./engine.ts";
import { engineTest, useEngine } from "./engine-test.ts";
import type { Lab, LabNode } from "./lab.ts";
import { addressOf, untilRunning } from "./listings.ts";
import { program } from "./program.ts";
import { useLab } from "./system-test.ts";
import { undoAfterAll } from "./undo.ts";

const PREFIX = "rst";
/** Answers each line with itself, as echo-server does. */
const ECHO = `require("net").createServer((s) => {
  s.on("error", () => {});
  require("readline").createInterface({ input: s }).on("line", (line) => s.write("x " + line + "\\n"));
}).listen(7, "0.0.0.0")`;
const NAMESPACES = [`${PREFIX}-net-a`, `${PREFIX}-net-b`];
const LABELLED = [`${PREFIX}-lab-a`, `${PREFIX}-lab-b`];

const door = new EngineDoor(`/tmp/overlayd-test-${PREFIX}-door.sock`);
/** The addresses of node 2's containers, by what each is. */
const servers = new Map<string, string>();

useEngine();
const lab = useLab(
  { prefix: PREFIX, nodes: 2, settings: { docker: { socket: door.path } } },
  whyNoEngine() === undefined ? prepare : async () => {},
);
undoAfterAll(() => door.close());
undoAfterAll(removeContainers);

async function prepare({ nodes: [node1, node2] }: Lab): Promise<void> {
  rmSync(door.path, { force: true });
  await door.open();
  await removeContainers();
  await node1!.ctl("network", "create", "web");
  // Older than all that follows.
  await waitFor(async () => (await node2!.ctl("network", "ls")).includes("web"), {
    what: "node 2 to know the network",
  });
  copyFileSync(snapshotOf(node2!), `${snapshotOf(node2!)}.old`);

  const onNode2 = ["--network", "web", "--constraint", `node.name==${node2!.name}`];
  const command = [process.execPath, "-e", ECHO];
  await node1!.ctl("service", "create", "--name", "process", ...onNode2, "--", ...command);
  await node1!.ctl("service", "create", "--name", "image", ...onNode2, BASE_IMAGE, "node", "-e", ECHO);
  await node1!.ctl("service", "create", "--name", "far", "--network", "web", "--", ...command);
  for (const service of ["process", "image"])
    servers.set(`a task of ${service}`, addressOf((await untilRunning(node1!, service, 1))[0]!));
  for (const name of LABELLED) {
    const labels = ["--label", "overlayd.network=web", "--label", `overlayd.node=${node2!.name}`];
    await run(["docker", "run", "-d", "--name", name, "--network", "none", ...labels, BASE_IMAGE, "node", "-e", ECHO]);
  }
  for (const name of NAMESPACES) {
    await run(["ip", "netns", "add", name]);
    undoAfterAll(() => tryRun(["ip", "netns", "del", name]));
    const server = new Background(["ip", "netns", "exec", name, ...command]);
    undoAfterAll(() => server.end("SIGKILL"));
    servers.set(`namespace ${name}`, (await node2!.ctl("attach", name, "--network", "web")).trim());
  }
  for (const name of LABELLED) servers.set(`container ${name}`, await attachedAddress(node2!, name));
}

async function removeContainers(): Promise<void> {
  const filters = ["--filter", `name=^${PREFIX}-`, "--filter", `label=overlayd.node=${PREFIX}n2`];
  const ids = (await tryRun(["docker", "ps", "-aq", ...filters.slice(0, 2)])).stdout.split("\n").filter(Boolean);
  const tasks = (await tryRun(["docker", "ps", "-aq", ...filters.slice(2)])).stdout.split("\n").filter(Boolean);
  const all = [...new Set([...ids, ...tasks])];
  if (all.length > 0) await tryRun(["docker", "rm", "-f", ...all]);
}

function snapshotOf(node: LabNode): string {
  return join(node.env.OVERLAYD_SOCKET!, "../data/snapshot.json");
}

function attachedAddress(node: LabNode, name: string): Promise<string> {
  return waitFor(
    async () => {
      const endpoints = await node.ctlJson<(EndpointView & { address: string })[]>("endpoint", "ls");
      return endpoints.find((endpoint) => endpoint.name === name && endpoint.state === "running")?.address;
    },
    { what: `${name} to be attached` },
  );
}

/** Host ends, with the index that the kernel gave each: a link that is made anew has another. */
async function hostEnds(node: LabNode): Promise<string[]> {
  const text = await node.exec(["ip", "-o", "link"]);
  return [...text.matchAll(/^\d+: ovl[0-9a-f]{8}(?=@)/gm)].map(([line]) => line).sort();
}

interface Talk {
  what: string;
  talk: Background;
}

/** A connection to each server on node 2, and one that begins in a sandbox of `overlayctl run` there. */
async function talkToAll(t: ExecutionContext): Promise<Talk[]> {
  const [node1, node2] = lab().nodes;
  const begin = async (what: string, node: LabNode, to: string): Promise<Talk> => {
    const argv = ["overlayctl", "run", "--network", "web", "--", ...program("talk", to, 7)];
    const talk = new Background(node.inside(argv), node.env);
    t.teardown(() => void talk.end("SIGTERM")); // not waited for: where the test failed it may not end
    return { what, talk: await talk.says("talking") };
  };
  const talks: Talk[] = [];
  for (const [what, address] of servers) talks.push(await begin(what, node1!, address));
  talks.push(await begin("a sandbox of overlayctl run", node2!, "far"));
  return talks;
}

async function allGoOn(t: ExecutionContext, talks: readonly Talk[]): Promise<void> {
  for (const { what, talk } of talks) t.is(await talk.end("SIGTERM"), 0, `${what}: ${talk.output}`);
}

/** Waits until the agent has heard the leader and linked what it then wanted: a new link comes after that. */
function settled(node: LabNode): Promise<unknown> {
  const isLinked = async () => (await node.container("web", ["true"])).status === 0;
  return waitFor(isLinked, { what: `${node.name} to have settled` });
}

for (const [how, end] of [
  ["killed", (node: LabNode) => node.killAgent()],
  ["stopped", (node: LabNode) => node.stopAgent()],
] as const) {
  engineTest(
    `an agent that is ${how} and started again makes no link anew, and every connection goes on`,
    async (t) => {
      const [, node2] = lab().nodes;
      const talks = await talkToAll(t);
      const before = await hostEnds(node2!);
      t.is(before.length, servers.size + 1);
      await end(node2!);
      await node2!.startAgent();
      await settled(node2!);
      t.deepEqual(await hostEnds(node2!), before);
      await allGoOn(t, talks);
    },
  );
}

engineTest("with an old snapshot, no leader and a Docker that hangs, nothing that runs is removed", async (t) => {
  const [node1, node2] = lab().nodes;
  const talks = await talkToAll(t);
  const before = await hostEnds(node2!);
  const namespaces = async () => (await run(["ls", "/run/netns"])).split("\n").filter((name) => name.includes(PREFIX));
  const tasks = await namespaces();
  await node2!.killAgent();
  await node1!.killAgent();
  await door.hang();
  copyFileSync(`${snapshotOf(node2!)}.old`, snapshotOf(node2!));
  await node2!.startAgent();
  // Every five seconds the agent looks for links that are not wanted, and it waits ten seconds for Docker.
  await waitFor(() => /Docker does not answer/.test(node2!.logTail(200)), { what: "Docker to be missed" });
  t.deepEqual(await hostEnds(node2!), before);
  t.deepEqual(await namespaces(), tasks);
  await door.close();
  await door.open();
  await node1!.startAgent();
  await settled(node2!);
  t.deepEqual(await hostEnds(node2!), before);
  await allGoOn(t, talks);
});
