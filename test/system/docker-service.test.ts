// Services of containers on two nodes with one engine: by name, by published port, when things are taken away.
import { spawn } from "node:child_process";
import { rmSync } from "node:fs";
import { resolve } from "node:path";
import test from "ava";
import type { ServiceView, TaskView } from "../../src/api/schema.ts";
import { curl, curlBriefly, run, waitFor } from "./command.ts";
import { BASE_IMAGE, EngineDoor, whyNoEngine } from "./engine.ts";
import { engineTest, useEngine } from "./engine-test.ts";
import type { Lab, LabNode } from "./lab.ts";
import { createLab, OUTSIDE_ADDRESS } from "./lab.ts";
import { untilRunning } from "./listings.ts";
import { undoAfterAll } from "./undo.ts";

/** Bound into containers: the service that the demo shows. */
const CONFIGS = resolve("configs");
const FORWARD = ["iptables", "-w", "-S"];

const door = new EngineDoor("/tmp/overlayd-test-docker-door.sock");
let lab: Lab;

useEngine();
test.serial.before(async () => {
  if (whyNoEngine() !== undefined) return;
  rmSync(door.path, { force: true });
  await door.open();
  for (const node of ["dksn1", "dksn2"]) await removeContainers(node); // what a run that was killed has left
  lab = await createLab({
    prefix: "dks",
    nodes: 2,
    settings: { docker: { socket: door.path } },
  });
  // As Docker does it to a node.
  for (const node of lab.nodes) await node.exec(["iptables", "-w", "-P", "FORWARD", "DROP"]);
  await lab.startAgents();
  const mount = `type=bind,source=${CONFIGS},target=/srv,readonly`;
  const options = ["--name", "search", "--replicas", "2", "-p", "9200:9200", "--mount", mount, "--label", "team=x"];
  await node1().ctl("service", "create", ...options, BASE_IMAGE, "node", "/srv/search-server.js");
});
test.afterEach.always((t) => {
  if (!t.passed) for (const node of lab?.nodes ?? []) t.log(`the end of ${node.name}'s log:\n${node.logTail()}`);
});
undoAfterAll(() => door.close());
undoAfterAll(() => lab?.teardown());
undoAfterAll(async () => {
  for (const node of lab?.nodes ?? []) await removeContainers(node.name);
});

function node1(): LabNode {
  return lab.nodes[0]!;
}

async function containersOf(node: string): Promise<string[]> {
  const format = ["--filter", `label=overlayd.node=${node}`, "--format", "{{.Names}}"];
  return (await run(["docker", "ps", "-a", ...format])).split("\n").filter(Boolean).sort();
}

async function removeContainers(node: string): Promise<void> {
  const names = await containersOf(node);
  if (names.length > 0) await run(["docker", "rm", "-f", ...names]);
}

/** The container in which a task runs. */
function containerOf({ name, id }: TaskView): string {
  return `${name}.${id}`;
}

async function taskWhere(service: string, matches: (task: TaskView) => boolean, what: string): Promise<TaskView> {
  return waitFor(async () => (await node1().ctlJson<TaskView[]>("service", "ps", service)).find(matches), {
    what,
  });
}

engineTest("a service of an image runs a container on each node, and says so in Docker's words", async (t) => {
  const tasks = await untilRunning(node1(), "search", 2);
  t.is(new Set(tasks.map(({ node }) => node)).size, 2);
  const listing = await node1().ctl("service", "ps", "search");
  t.regex(listing, /search\.1 +overlayd-test\/base:1 +dksn\d +Running +Running /);
  const [service] = await node1().ctlJson<ServiceView[]>("service", "ls");
  t.like(service, { image: BASE_IMAGE, command: ["node", "/srv/search-server.js"], labels: { team: "x" }, running: 2 });
  const names = [await containersOf("dksn1"), await containersOf("dksn2")].flat().sort();
  t.deepEqual(names, tasks.flatMap((task) => [containerOf(task), `${containerOf(task)}.pause`]).sort());
});

engineTest("it is answered by name from a container, and by its port on every node", async (t) => {
  const [task] = await untilRunning(node1(), "search", 2);
  const answer = await run(["docker", "exec", containerOf(task!), ...curl("http://search:9200")]);
  t.regex(answer, /"name": "search-/);
  for (const { address } of lab.nodes) {
    const page = await lab.client.exec(curl(`http://${address}:9200`));
    t.regex(page, /"client": "192\.0\.2\.100"/);
  }
});

engineTest("containers reach the world outside though the node drops what it forwards", async (t) => {
  const script = "require('http').createServer((_, r) => r.end('outside\\n')).listen(8080, '0.0.0.0')";
  const [command, ...argv] = lab.client.inside([process.execPath, "-e", script]);
  const server = spawn(command!, argv);
  t.teardown(() => server.kill());
  const [task] = await untilRunning(node1(), "search", 2);
  const ask = ["docker", "exec", containerOf(task!), ...curlBriefly(`http://${OUTSIDE_ADDRESS}:8080`)];
  t.is(await waitFor(() => run(ask), { what: "the answer of the world outside" }), "outside\n");
  t.true((await node1().exec(FORWARD)).includes("-A FORWARD -i overlay0 -j ACCEPT"));
});

engineTest("a container that is removed by hand is made anew, and the reason was told", async (t) => {
  const [task] = await untilRunning(node1(), "search", 2);
  await run(["docker", "rm", "-f", containerOf(task!)]);
  const again = await taskWhere(
    "search",
    ({ id, state, restarts }) => id === task!.id && state === "running" && restarts > task!.restarts,
    "the task to run again",
  );
  t.deepEqual(again.addresses, task!.addresses);
});

engineTest("an agent that is killed and started again adopts its containers, which answer meanwhile", async (t) => {
  await untilRunning(node1(), "search", 2);
  const before = await containersOf("dksn1");
  const startedAt = () => run(["docker", "inspect", "-f", "{{.State.StartedAt}}", ...before]);
  const times = await startedAt();
  await node1().killAgent();
  await node1().startAgent();
  await untilRunning(node1(), "search", 2);
  t.deepEqual(await containersOf("dksn1"), before);
  t.is(await startedAt(), times);
  const page = await lab.client.exec(curl(`http://${node1().address}:9200`));
  t.regex(page, /"name": "search-/);
});

engineTest("an image that cannot be had is told where the task is listed", async (t) => {
  await node1().ctl("service", "create", "--detach", "--name", "lost", "127.0.0.1:1/none:1");
  const task = await taskWhere("lost", ({ state }) => state === "rejected", "the task to be rejected");
  t.regex(task.error ?? "", /^image 127\.0\.0\.1:1\/none:1 cannot be pulled: /);
  t.regex(
    await node1().ctl("service", "ps", "--no-trunc", "lost"),
    /(Rejected|Preparing) .* "image 127\.0\.0\.1:1\/none:1 cannot be pulled/,
  );
  await node1().ctl("service", "rm", "lost");
  await waitFor(async () => (await containersOf("dksn1")).every((name) => !name.startsWith("lost")), {
    what: "nothing to be left of it",
  });
});

const REFUSALS: [args: string[], message: RegExp][] = [
  [["Not/An:Image:1"], /workload\.image: .*not the name of an image|not the name of an image/],
  [["--container-label", "overlayd.node=x", BASE_IMAGE], /labels that begin with 'overlayd\.' are overlayd's own/],
  [["--limit-memory", "1m", BASE_IMAGE], /a memory limit is 6 MiB at least/],
  [["--mount", "type=bind,source=here,target=/x", BASE_IMAGE], /a bind mount needs an absolute path/],
  [["--user", "1", "--", "true"], /--user is for containers/],
];
for (const [args, message] of REFUSALS) {
  engineTest(`'service create ${args.join(" ")}' is refused, and nothing is made`, async (t) => {
    const { status, stderr } = await node1().tryExec(["overlayctl", "service", "create", "--name", "bad", ...args]);
    t.true(status > 0);
    t.regex(stderr, message);
    const services = await node1().ctlJson<ServiceView[]>("service", "ls");
    t.false(services.some(({ name }) => name === "bad"));
  });
}

engineTest("while Docker is away that is the reason, and when it is back the task runs", async (t) => {
  await untilRunning(node1(), "search", 2);
  await door.close();
  await node1().ctl("service", "create", "--detach", "--name", "late", BASE_IMAGE, "sleep", "600");
  const task = await taskWhere("late", ({ error }) => error !== null, "the reason");
  t.is(task.error, `no suitable node (${lab.nodes.length} nodes have no Docker that answers)`);
  t.is((await untilRunning(node1(), "search", 2)).length, 2);
  await door.open();
  await untilRunning(node1(), "late", 1);
  await node1().ctl("service", "rm", "late");
});

engineTest("the logs of all nodes are shown, each line with its task, and followed over a restart", async (t) => {
  await node1().ctl(
    "service",
    "create",
    "--name",
    "talk",
    "--replicas",
    "2",
    BASE_IMAGE,
    "sh",
    "-c",
    "echo one; echo two; exec sleep 600",
  );
  const [first] = await untilRunning(node1(), "talk", 2);
  const lines = async (...options: string[]) =>
    (await node1().ctl("service", "logs", ...options, "talk"))
      .trimEnd()
      .split("\n")
      .map((line) => line.replace(/ +\| /, " | "))
      .sort();
  t.regex((await lines()).join("\n"), /^talk\.1@dksn(\d) \| one\n(.*\n)?talk\.2@dksn(?!\1)\d \| two$/s);
  t.deepEqual(
    (await lines("--tail", "1")).map((line) => line.split(" | ")[1]),
    ["two", "two"],
  );
  const [command, ...argv] = node1().inside(["overlayctl", "service", "logs", "-f", "talk"]);
  const follower = spawn(command!, argv, { env: { ...process.env, ...node1().env } });
  t.teardown(() => follower.kill());
  let seen = "";
  follower.stdout.on("data", (chunk: Buffer) => {
    seen += chunk;
  });
  const count = (word: string) => seen.split("\n").filter((line) => line.endsWith(`| ${word}`)).length;
  await waitFor(async () => count("two") === 2, { what: "both logs to be followed" });
  await run(["docker", "rm", "-f", containerOf(first!)]);
  await waitFor(async () => count("two") === 3, { what: "the log of the next container" });
  t.is(count("one"), 3);
  await node1().ctl("service", "rm", "talk");
});

engineTest("a service that is removed leaves no container, and `overlayd down` nothing at all", async (t) => {
  await node1().ctl("service", "create", "--name", "stays", BASE_IMAGE, "sleep", "600");
  await node1().ctl("service", "rm", "search");
  await waitFor(async () => (await containersOf("dksn1")).every((name) => name.startsWith("stays")), {
    what: "the service's containers to go",
  });
  for (const node of lab.nodes) {
    await node.stopAgent();
    await node.exec(["overlayd", "down", "--config", node.configPath]);
    t.deepEqual(await containersOf(node.name), []);
    t.false((await node.exec(FORWARD)).includes("overlay0"));
  }
});
