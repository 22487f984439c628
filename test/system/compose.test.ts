// The compose demo as the README shows it: each of its lines is run here, in its order, and each is checked.
import { readFileSync } from "node:fs";
import test, { type ExecutionContext } from "ava";
import type { NodeView, TaskView } from "../../src/api/schema.ts";
import { whatBpfLacks } from "../../src/linux/bpf-probe.ts";
import { curl, curlBriefly, run, waitFor } from "./command.ts";
import { Compose, whyNoCompose } from "./compose.ts";
import { useEngine } from "./engine-test.ts";
import { LANE } from "./lab-files.ts";
import { undoAfterAll } from "./undo.ts";

const NODES = ["node1", "node2", "node3"];
const LANE_IS_ON = LANE !== "off" && whatBpfLacks() === undefined;
const compose = new Compose("overlaydtest");
/** Names of the tasks that answered, by node. */
const answers = new Map<string, string[]>();
let vip = "";

useEngine();
undoAfterAll(async () => {
  if (whyNoCompose() === undefined) await compose.run("down", "-v", "--timeout", "30");
});

type Check = (t: ExecutionContext, out: string, words: readonly string[]) => Promise<void> | void;

async function tasks(node = "node1"): Promise<TaskView[]> {
  const all = JSON.parse(
    await compose.must("exec", node, "overlayctl", "service", "ps", "search", "--json"),
  ) as TaskView[];
  return all.filter(({ state, desired, nodeReady }) => state === "running" && desired === "running" && nodeReady);
}

function answered(out: string): string {
  const { name, tagline } = JSON.parse(out) as { name: string; tagline: string };
  return tagline === "You Know, for Search" ? name : "";
}

/** Some requests to a node's own published port. */
async function ask(node: string, count: number): Promise<string[]> {
  const names: string[] = [];
  for (let i = 0; i < count; i++) {
    names.push(answered(await compose.must("exec", node, ...curl("localhost:9200"))));
  }
  return names;
}

/** Whether the node has an express lane, whose pins are in its volume for them. */
async function hasLane(node: string): Promise<boolean> {
  const { stdout } = await compose.run("exec", node, "ls", "/var/lib/overlayd/bpf/overlayd");
  return stdout.split("\n").includes("flows");
}

/** Ids of the containers of a node's tasks. */
async function containersOf(node: string): Promise<string[]> {
  const filter = ["--filter", `label=overlayd.node=${node}`, "--filter", "label=overlayd.task"];
  return (await run(["docker", "ps", "-q", ...filter])).split("\n").filter(Boolean).sort();
}

async function killAgent(node: string): Promise<void> {
  const id = (await compose.must("ps", "-q", node)).trim();
  const script = (await run(["docker", "inspect", "--format", "{{.State.Pid}}", id])).trim();
  const [agent] = readFileSync(`/proc/${script}/task/${script}/children`, "utf8").split(" ");
  process.kill(Number(agent), "SIGKILL");
}

const checks: [line: RegExp, check: Check][] = [
  [
    /^up -d --force-recreate/,
    async (t) => {
      const isWhole = async () => (await tasks().catch(() => [])).length === 3 && (await tasks("node2")).length === 3;
      await waitFor(isWhole, { what: "the cluster to be there again" });
      const nodes = JSON.parse(await compose.must("exec", "node2", "overlayctl", "node", "ls", "--json")) as NodeView[];
      t.deepEqual(
        nodes.map(({ name }) => name),
        NODES,
      );
      for (const node of NODES) t.true((await ask(node, 3)).every((name) => name !== ""));
    },
  ],
  [
    /^up -d/,
    async (t) => {
      const nodes = JSON.parse(await compose.must("exec", "node3", "overlayctl", "node", "ls", "--json")) as NodeView[];
      t.deepEqual(
        nodes.map(({ name, state }) => `${name} ${state}`),
        NODES.map((name) => `${name} ready`),
      );
      for (const node of NODES) t.is(await hasLane(node), LANE_IS_ON, node);
    },
  ],
  [
    /service create/,
    (t, out) => {
      t.regex(out, /^[0-9a-z]{25}\noverall progress: 0 out of 3 tasks\n/);
      t.regex(out, /\noverall progress: 3 out of 3 tasks\n/);
      t.regex(out, /\nverify: Service converged\n$/);
    },
  ],
  [
    /service ps search/,
    async (t, out) => {
      t.regex(out, /^ID +NAME +IMAGE +NODE +DESIRED STATE +CURRENT STATE +ERROR +PORTS\n/);
      for (const node of NODES) t.regex(out, new RegExp(` search\\.\\d +overlayd-search +${node} +Running +Running `));
    },
  ],
  [
    /^exec node\d curl/,
    (t, out, [, node = ""]) => {
      t.truthy(answered(out));
      answers.set(node, [...(answers.get(node) ?? []), answered(out)]);
    },
  ],
  [
    /run -- dig search/,
    (t, out) => {
      vip = /^search\.\s+\d+\s+IN\s+A\s+(10\.\S+)$/m.exec(out)?.[1] ?? "";
      t.regex(vip, /^10\./, out);
    },
  ],
  [/client getent hosts search/, (t, out) => t.is(out.split(/\s+/)[0], vip)],
  [
    /peers/,
    (t, out) => {
      for (const node of NODES.slice(1)) t.regex(out, new RegExp(`^${node} +192\\.0\\.2\\.\\d+ +up +[\\d.]+ ms `, "m"));
    },
  ],
  [
    /^stop node3/,
    async (t) => {
      for (const node of NODES.slice(0, 2)) t.true((await ask(node, 10)).every((name) => name !== ""));
      await waitFor(async () => (await tasks()).length === 3 && !(await tasks()).some(({ node }) => node === "node3"), {
        what: "the third task on another node",
      });
    },
  ],
  [
    /^start node3/,
    async (t) => {
      const isWhole = async () => new Set((await tasks()).map(({ node }) => node)).size === 3;
      await waitFor(isWhole, { what: "a task on each node" });
      t.true((await ask("node3", 6)).every((name) => name !== ""));
      // An agent that dies comes back by itself, and finds its tasks.
      const before = await containersOf("node3");
      await killAgent("node3");
      const request = ["exec", "node3", ...curlBriefly("localhost:9200")];
      await waitFor(async () => (await compose.run(...request)).status === 0, {
        what: "the node whose agent died to answer",
      });
      await waitFor(isWhole, { what: "a task on each node" });
      t.deepEqual(await containersOf("node3"), before);
      t.true((await ask("node3", 6)).every((name) => name !== ""));
    },
  ],
  [
    /^down/,
    async (t) => {
      const names = (await run(["docker", "ps", "-a", "--format", '{{.Names}} {{.Label "overlayd.node"}}'])).split(
        "\n",
      );
      t.deepEqual(
        names.filter((line) => line.startsWith("overlaydtest") || / node[123]$/.test(line)),
        [],
      );
      t.notRegex(await run(["docker", "volume", "ls", "--format", "{{.Name}}"]), /overlaydtest/);
      t.notRegex(readFileSync("/proc/self/mounts", "utf8"), /overlaydtest/);
      t.notRegex(await run(["docker", "network", "ls", "--format", "{{.Name}}"]), /overlaydtest/);
    },
  ],
];

/** What the README has its reader type, as words after `docker compose`. */
function readmeLines(): string[][] {
  const section = readFileSync("README.md", "utf8")
    .split(/^## /m)
    .find((text) => text.startsWith("With Docker Compose"));
  const lines = [...(section ?? "").matchAll(/^\$ docker compose (.+)$/gm)].map(([, line]) => line!.split(" "));
  if (lines.length < checks.length) throw new Error(`README.md shows only ${lines.length} lines of docker compose`);
  return lines;
}

const reason = whyNoCompose();
const title = "three nodes with docker compose: every line of the README does what it says";
if (reason !== undefined) test.serial.skip(`${title} (skipped: ${reason})`, () => {});
else {
  test.serial(title, async (t) => {
    const left = new Set(checks.map(([line]) => line));
    await compose.run("down", "-v");
    await compose.build();
    for (const words of readmeLines()) {
      const text = words.join(" ");
      const [line, check] = checks.find(([pattern]) => pattern.test(text)) ?? [];
      if (line === undefined || check === undefined) throw new Error(`nothing checks this line of the README: ${text}`);
      const out = await compose.must(...words);
      t.log(`docker compose ${text}`);
      await check(t, out, words);
      left.delete(line);
      if (line.test("peers")) {
        for (const node of NODES) t.is(answers.get(node)?.length, 2, node);
        for (const node of NODES) t.true(new Set([...answers.get(node)!, ...(await ask(node, 6))]).size > 1, node);
      }
    }
    t.deepEqual([...left], []);
  });
}
