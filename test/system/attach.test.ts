// Containers and namespaces that overlayd did not make, on a real engine: attached by labels and by hand, stopped,
// started, removed, and what cannot be is said.
import type { EndpointView, ServiceView, TaskView } from "../../src/api/schema.ts";
import { curl, curlBriefly, ping, pingInVain, run, tryRun, waitFor } from "./command.ts";
import { BASE_IMAGE } from "./engine.ts";
import { engineTest, useEngine } from "./engine-test.ts";
import type { LabNode } from "./lab.ts";
import { addressOf, networkOf, runningTasks, untilRunning, vipOf } from "./listings.ts";
import { useLab } from "./system-test.ts";
import { undoAfterAll } from "./undo.ts";

const PREFIX = "att";
const SERVER = `require("http").createServer((q, r) => r.end(require("os").hostname() + " " + q.socket.remoteAddress + "\\n")).listen(80, "0.0.0.0")`;
const SLEEP = ["sleep", "600"];

useEngine();
const lab = useLab({ prefix: PREFIX, nodes: 2, engine: true }, async ({ nodes: [node1] }) => {
  await removeContainers();
  await node1!.ctl("network", "create", "web");
});
undoAfterAll(removeContainers);

/** Everything that this file started carries its prefix in its name. */
async function removeContainers(): Promise<void> {
  const ids = (await tryRun(["docker", "ps", "-aq", "--filter", `name=^${PREFIX}-`])).stdout
    .split("\n")
    .filter(Boolean);
  if (ids.length > 0) await run(["docker", "rm", "-f", ...ids]);
}

interface StartOptions {
  labels?: Record<string, string>;
  network?: string;
  argv?: readonly string[];
}

/** A container of node 1, or of the node that its labels name. */
async function start(
  name: string,
  { labels = {}, network = "none", argv = SLEEP }: StartOptions = {},
): Promise<string> {
  const asks = Object.keys(labels).length > 0;
  const all = asks ? { "overlayd.node": `${PREFIX}n1`, ...labels } : {};
  const flags = Object.entries(all).flatMap(([key, value]) => ["--label", `${key}=${value}`]);
  const options = ["--name", `${PREFIX}-${name}`, "--hostname", name, "--network", network, "--init"];
  return (await run(["docker", "run", "-d", ...options, ...flags, BASE_IMAGE, ...argv])).trim();
}

function docker(...argv: string[]): Promise<string> {
  return run(["docker", ...argv]);
}

function inside(name: string, ...argv: string[]) {
  return tryRun(["docker", "exec", `${PREFIX}-${name}`, ...argv]);
}

async function endpointOf(node: LabNode, name: string): Promise<EndpointView | undefined> {
  const endpoints = await node.ctlJson<EndpointView[]>("endpoint", "ls");
  return endpoints.find((endpoint) => endpoint.name === `${PREFIX}-${name}`);
}

/** Waits until a container has an address and runs. */
function attached(node: LabNode, name: string): Promise<EndpointView & { address: string }> {
  return waitFor(
    async () => {
      const endpoint = await endpointOf(node, name);
      return endpoint?.state === "running" && (endpoint as EndpointView & { address: string });
    },
    { what: `${name} to be attached` },
  );
}

function gone(node: LabNode, name: string): Promise<true> {
  const isGone = async () => ((await endpointOf(node, name)) === undefined ? true : undefined);
  return waitFor(isGone, { what: `${name} to be gone` });
}

engineTest(
  "containers with labels are tasks of a service: names, VIP and published port, from every node",
  async (t) => {
    const [node1, node2] = lab().nodes;
    const labels = { "overlayd.network": "web", "overlayd.service": "search", "overlayd.publish": "9300:80" };
    const server = ["node", "-e", SERVER];
    await start("s1", { labels, argv: server });
    await start("s2", {
      labels: { ...labels, "overlayd.node": `${PREFIX}n2`, "overlayd.alias": "second" },
      argv: server,
    });
    const tasks = await untilRunning(node2!, "search", 2);
    t.deepEqual(tasks.map(({ node }) => node).toSorted(), [`${PREFIX}n1`, `${PREFIX}n2`]);
    t.true(tasks.every(({ image }) => image === BASE_IMAGE));

    const vip = await vipOf(node1!, "search");
    await start("client", { labels: { "overlayd.network": "web" } });
    await attached(node1!, "client");
    t.is((await inside("client", "dig", "+short", "search")).stdout.trim(), vip!);
    t.is((await inside("client", "dig", "+short", "tasks.search")).stdout.trim().split("\n").length, 2);
    const second = tasks.find(({ node }) => node === `${PREFIX}n2`)!;
    t.is((await inside("client", "dig", "+short", "second")).stdout.trim(), addressOf(second));
    t.is((await inside("client", "dig", "+short", `${PREFIX}-s2`)).stdout.trim(), addressOf(second));
    const answers = new Set<string>();
    for (let i = 0; i < 8; i++) answers.add((await inside("client", ...curl("http://search"))).stdout.split(" ")[0]!);
    t.deepEqual([...answers].toSorted(), ["s1", "s2"]);
    for (const node of [node1!, node2!]) {
      const reply = await lab().client.exec(curl(`http://${node.address}:9300`));
      t.regex(reply, /^s[12] 192\.0\.2\.100$/m);
    }
    const [service] = await node1!.ctlJson<ServiceView[]>("service", "inspect", "search");
    t.deepEqual([service!.mode, service!.replicas, service!.running], ["attached", 2, 2]);
  },
);

engineTest(
  "a container that stops leaves names and balancing, and has its address again when it is started",
  async (t) => {
    const [node1, node2] = lab().nodes;
    const before = (await runningTasks(node1!, "search")).find(({ node }) => node === `${PREFIX}n2`)!;
    await docker("kill", `${PREFIX}-s2`);
    const [left] = await untilRunning(node1!, "search", 1);
    t.is(left!.node, `${PREFIX}n1`);
    const stopped = (await node1!.ctlJson<TaskView[]>("service", "ps", "search")).find(({ id }) => id === before.id)!;
    t.deepEqual([stopped.state, stopped.exitCode], ["failed", 137]);
    t.regex(stopped.error!, /SIGKILL/);
    t.is((await inside("client", "dig", "+short", "tasks.search")).stdout.trim(), addressOf(left!));
    const ask = async () => (await inside("client", ...curlBriefly("http://search"))).stdout;
    const answers = async () => [await ask(), await ask(), await ask(), await ask()];
    await waitFor(async () => (await answers()).every((answer) => answer.startsWith("s1 ")), {
      what: "the one that is left to be given all",
    });
    t.notRegex(await run(["ls", "/run/netns"]), /ovl-attn2\.att-/);

    await docker("start", `${PREFIX}-s2`);
    const after = (await untilRunning(node2!, "search", 2)).find(({ node }) => node === `${PREFIX}n2`)!;
    t.deepEqual([after.id, addressOf(after)], [before.id, addressOf(before)]);
    t.is((await inside("client", ...curl(`http://${addressOf(after)}`))).status, 0);
  },
);

engineTest("a removed container is forgotten, and a service goes with its last one", async (t) => {
  const [node1] = lab().nodes;
  const refused = await node1!.tryExec(["overlayctl", "service", "rm", "search"]);
  t.is(refused.status, 1);
  t.regex(
    refused.stderr,
    /service 'search' has 2 attached containers, on attn1, attn2: detach or remove what is attached first/,
  );
  await docker("rm", "-f", `${PREFIX}-s1`);
  await untilRunning(node1!, "search", 1);
  await docker("rm", "-f", `${PREFIX}-s2`);
  await waitFor(async () => (await node1!.ctlJson<ServiceView[]>("service", "ls")).length === 0, {
    what: "the service to go",
  });
  t.is((await inside("client", "dig", "+short", "search")).stdout.trim(), "");
});

engineTest("attach by hand: name, alias, address, a second network; detach from one and from all", async (t) => {
  const [node1, node2] = lab().nodes;
  await node1!.ctl("network", "create", "back", "--subnet", "10.200.16.0/20");
  const id = await start("hand");
  const address = (
    await node1!.ctl("attach", `${PREFIX}-hand`, "--network", "web", "--name", "db", "--alias", "store")
  ).trim();
  t.is(
    (await node1!.ctl("attach", id.slice(0, 12), "--network", "back", "--ip", "10.200.16.77")).trim(),
    "10.200.16.77",
  );
  const ask = (...argv: string[]) => node2!.container("web", argv);
  for (const name of ["db", "store", `${PREFIX}-hand`, id.slice(0, 12)]) {
    t.is((await ask("dig", "+short", name)).stdout.trim(), address, name);
  }
  t.is((await ask(...ping("db"))).status, 0);
  t.is((await node2!.container("back", ping("10.200.16.77"))).status, 0);
  t.is((await inside("hand", "ls", "/sys/class/net")).stdout, "eth0\neth1\nlo\n");
  for (const gateway of [(await networkOf(node1!, "web")).gateway, "10.200.16.1"]) {
    const told = async (name: string) => (await inside("hand", "dig", "+short", `@${gateway}`, name)).stdout.trim();
    t.is(await told("db"), address, `from ${gateway}`);
    t.is(await told(`${PREFIX}-hand.back`), "10.200.16.77", `from ${gateway}`);
  }

  await node1!.ctl("detach", `${PREFIX}-hand`, "--network", "back");
  t.is((await inside("hand", "ls", "/sys/class/net")).stdout, "eth0\nlo\n");
  await docker("restart", "-t", "0", `${PREFIX}-hand`);
  await waitFor(async () => (await ask(...pingInVain(address))).status === 0, {
    what: "its address to be back",
  });
  await node1!.ctl("detach", `${PREFIX}-hand`);
  t.is((await inside("hand", "ls", "/sys/class/net")).stdout, "lo\n");
  t.is((await ask("dig", "+short", "db")).stdout, "");
  await node1!.ctl("network", "rm", "back");
});

engineTest("a container with a network of its own keeps it, and reaches the overlay beside it", async (t) => {
  const [node1] = lab().nodes;
  await start("bridged", { network: "bridge", labels: { "overlayd.network": "web" } });
  const { address } = await attached(node1!, "bridged");
  t.is((await inside("bridged", "ls", "/sys/class/net")).stdout, "eth0\neth1\nlo\n");
  t.regex((await inside("bridged", "ip", "route")).stdout, /^default via \S+ dev eth0/m);
  t.is((await inside("client", "dig", "+short", `${PREFIX}-bridged`)).stdout.trim(), address);
  t.is((await lab().nodes[1]!.container("web", ping(address))).status, 0);
  const client = (await endpointOf(node1!, "client"))!.address!;
  t.is(
    (
      await inside(
        "bridged",
        ...["node", "-e", `require("dgram").createSocket("udp4").send("x", 9, "${client}", () => process.exit(0))`],
      )
    ).status,
    0,
  );
  await docker("rm", "-f", `${PREFIX}-bridged`);
  await gone(node1!, "bridged");
});

engineTest("a network namespace is attached by its name, and given back when it is gone", async (t) => {
  const [node1, node2] = lab().nodes;
  await run(["ip", "netns", "add", `${PREFIX}-plain`]);
  try {
    const address = (await node1!.ctl("attach", `${PREFIX}-plain`, "--network", "web", "--service", "plain")).trim();
    t.is(address, addressOf((await untilRunning(node2!, "plain", 1))[0]!));
    t.is((await node2!.container("web", ping("tasks.plain"))).status, 0);
  } finally {
    await run(["ip", "netns", "del", `${PREFIX}-plain`]);
  }
  await gone(node1!, "plain");
});

engineTest("an agent that is killed finds its containers again, and forgets those removed meanwhile", async (t) => {
  const [node1, node2] = lab().nodes;
  const labels = { "overlayd.network": "web" };
  await start("stays", { labels });
  await start("goes", { labels });
  await start("restarts", { labels });
  const { address } = await attached(node1!, "stays");
  await attached(node1!, "goes");
  const restarting = await attached(node1!, "restarts");
  await node1!.killAgent();
  t.is((await inside("stays", "ls", "/sys/class/net")).stdout, "eth0\nlo\n");
  await docker("rm", "-f", `${PREFIX}-goes`);
  await docker("restart", "-t", "0", `${PREFIX}-restarts`);
  await start("late", { labels });
  await node1!.startAgent();
  await gone(node1!, "goes");
  await attached(node1!, "late");
  t.is((await attached(node1!, "stays")).address, address);
  t.is((await attached(node1!, "restarts")).address, restarting.address);
  for (const target of [address, restarting.address]) {
    await waitFor(async () => (await node2!.container("web", pingInVain(target))).status === 0, {
      what: `${target} to answer`,
    });
  }
});

engineTest("an agent that is taken down leaves containers as they were before", async (t) => {
  const [, node2] = lab().nodes;
  await start("kept", { labels: { "overlayd.network": "web", "overlayd.node": `${PREFIX}n2` } });
  await attached(node2!, "kept");
  await node2!.stopAgent();
  await node2!.exec(["overlayd", "down", "--config", node2!.configPath]);
  t.is((await inside("kept", "ls", "/sys/class/net")).stdout, "lo\n");
  t.notRegex(await run(["ls", "/run/netns"]), /ovl-attn2/);
  await node2!.startAgent();
  await attached(node2!, "kept");
});

engineTest("of agents that share an engine one takes a container that names none", async (t) => {
  const [node1, node2] = lab().nodes;
  await node1!.ctl("network", "create", `${PREFIX}shared`);
  const flags = ["--name", `${PREFIX}-shared`, "--network", "none", "--label", `overlayd.network=${PREFIX}shared`];
  await docker("run", "-d", ...flags, BASE_IMAGE, ...SLEEP);
  const { node, address } = await attached(node1!, "shared");
  t.true([node1!.name, node2!.name].includes(node!));
  for (const other of [node1!, node2!]) {
    const endpoints = await other.ctlJson<EndpointView[]>("endpoint", "ls");
    const rows = endpoints.filter(({ name }) => name === `${PREFIX}-shared`);
    t.deepEqual(
      rows.map((row) => [row.address, row.kind]),
      [[address, "attached"]],
    );
  }
  t.is((await inside("shared", "ls", "/sys/class/net")).stdout, "eth0\nlo\n");
});

const refusals: [when: string, labels: Record<string, string>, network: string, says: RegExp][] = [
  ["a label is misspelt", { "overlayd.netwrok": "web" }, "none", /no label 'overlayd\.netwrok'; did you mean/],
  ["the network is not there", { "overlayd.network": "wbe" }, "none", /there is no network 'wbe'/],
  ["an address is outside", { "overlayd.network": "web", "overlayd.ip": "10.1.1.1" }, "none", /10\.1\.1\.1 is not in/],
  ["it has the host's network", { "overlayd.network": "web" }, "host", /has its host's network/],
];
for (const [when, labels, network, says] of refusals) {
  engineTest(
    `a container is refused when ${when}: said in the log and in endpoint ls, nothing half-made`,
    async (t) => {
      const [node1] = lab().nodes;
      await start("wrong", { labels, network });
      const refused = await waitFor(() => endpointOf(node1!, "wrong"), { what: "the refusal" });
      t.regex(refused.error!, says);
      t.deepEqual([refused.kind, refused.address], ["refused", null]);
      t.regex(node1!.logTail(50), /a container is not attached/);
      await docker("rm", "-f", `${PREFIX}-wrong`);
      await gone(node1!, "wrong");
    },
  );
}

engineTest("a network that comes later is enough for a container that waits for it", async (t) => {
  const [node1] = lab().nodes;
  await start("waits", { labels: { "overlayd.network": "later" } });
  await waitFor(async () => (await endpointOf(node1!, "waits"))?.kind === "refused", { what: "the refusal" });
  await node1!.ctl("network", "create", "later");
  t.regex((await attached(node1!, "waits")).address, /^10\./);
});

const wrongCalls: [when: string, argv: string[], says: RegExp][] = [
  ["there is no such container", ["attach", "nobody"], /no network namespace 'nobody', and no container/],
  ["the network is not there", ["attach", "CLIENT", "--network", "wbe"], /there is no network 'wbe'/],
  ["it is attached already", ["attach", "CLIENT", "--network", "web"], /attached to 'web' already, by node 'attn1'/],
  ["the address is outside the subnet", ["attach", "LOOSE", "--network", "web", "--ip", "10.1.1.1"], /is not in/],
  ["the address is taken", ["attach", "LOOSE", "--network", "web", "--ip", "GATEWAY"], /network, gateway or broadcast/],
  [
    "another has the address",
    ["attach", "LOOSE", "--network", "web", "--ip", "TAKEN"],
    /in use by endpoint 'att-client'/,
  ],
  ["the name is illegal", ["attach", "LOOSE", "--network", "web", "--name", "a-"], /a name has letters/],
  ["a port has no service", ["attach", "LOOSE", "--network", "web", "-p", "80:80"], /needs a service/],
  ["it is not attached", ["detach", "LOOSE"], /'att-loose' is not attached on this node/],
];
engineTest("a wrong attach or detach says what is wrong, and leaves nothing", async (t) => {
  const [node1] = lab().nodes;
  await start("loose");
  const client = (await endpointOf(node1!, "client"))!.address!;
  const gateway = client.replace(/\d+\.\d+$/, (end) => `${Number(end.split(".")[0]) & 0xf0}.1`);
  const words: Record<string, string> = {
    CLIENT: `${PREFIX}-client`,
    LOOSE: `${PREFIX}-loose`,
    GATEWAY: gateway,
    TAKEN: client,
  };
  for (const [when, argv, says] of wrongCalls) {
    const { status, stderr } = await node1!.tryExec(["overlayctl", ...argv.map((word) => words[word] ?? word)]);
    t.is(status, 1, when);
    t.regex(stderr, says, when);
  }
  t.is(await endpointOf(node1!, "loose"), undefined);
  t.is((await inside("loose", "ls", "/sys/class/net")).stdout, "lo\n");
});

engineTest("the log of an attached task is shown on its node, and not to another worker", async (t) => {
  const [node1, node2] = lab().nodes;
  const labels = { "overlayd.service": "chat" };
  await start("chat", { labels, argv: ["sh", "-c", "echo hello; exec sleep 600"] });
  await attached(node1!, "chat");
  t.regex(await node1!.ctl("service", "logs", "chat"), /^chat\.1@attn1 +\| hello\n$/);
  const foreign = await node2!.tryExec(["overlayctl", "service", "logs", "chat"]);
  t.regex(foreign.stdout + foreign.stderr, /node 'attn2' is a worker and reads logs of its own tasks/);
  await docker("rm", "-f", `${PREFIX}-chat`);
});

engineTest("with the leader gone an attached container that is restarted comes back by itself", async (t) => {
  const [node1] = lab().nodes;
  const kept = await attached(node1!, "kept");
  await node1!.killAgent();
  await docker("restart", "-t", "0", `${PREFIX}-kept`);
  await waitFor(async () => /eth0/.test((await inside("kept", "ls", "/sys/class/net")).stdout), { what: "its link" });
  t.regex((await inside("kept", "ip", "-4", "address", "show", "dev", "eth0")).stdout, new RegExp(kept.address));
  await node1!.startAgent();
  await attached(node1!, "kept");
});
