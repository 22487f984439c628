// The routing mesh as Docker's documentation shows it, and the other ways to publish a port.
import type { FlowView, ServiceView, TaskView } from "../../src/api/schema.ts";
import type { RatedStats } from "../../src/cli/stats.ts";
import { Background, curl, curlBriefly, waitFor } from "./command.ts";
import { CLIENT_ADDRESS, type LabHost } from "./lab.ts";
import { runningTasks, untilRunning } from "./listings.ts";
import { program } from "./program.ts";
import { systemTest, useLab } from "./system-test.ts";

const lab = useLab({ prefix: "rme", nodes: 3 });

/** The page's field as a client on `host` gets it from `target`; "" when nobody answers. */
async function fetched(host: LabHost, target: string, field: "name" | "client"): Promise<string> {
  const { stdout } = await host.tryExec(curlBriefly(target));
  return new RegExp(`"${field}": "([^"]+)"`).exec(stdout)?.[1] ?? "";
}

function publish(name: string, ...options: string[]): string {
  const command = `${process.execPath} configs/search-server.js 9200`;
  return `overlayctl service create --name ${name} ${options.join(" ")} --workdir "$PWD" -- ${command}`;
}

systemTest("the documentation's session: create, ps, curl localhost:9200, and again: another task", async (t) => {
  const [node1] = lab().nodes;
  const created = await node1!.shell(publish("search", "--replicas 3", "-p 9200:9200"));
  t.is(created.status, 0, created.stderr);
  t.regex(created.stdout, /overall progress: 3 out of 3 tasks/);
  t.regex(created.stdout, /verify: Service converged/);
  const { stdout: listing } = await node1!.shell("overlayctl service ps search");
  for (const node of lab().nodes) {
    t.regex(listing, new RegExp(`search\\.\\d .*${node.name} +Running +Running`), listing);
  }
  for (const node of lab().nodes) {
    const first = await node.shell("curl -s localhost:9200");
    t.regex(first.stdout, /"tagline": "You Know, for Search"/, node.name);
    const names = new Set<string>();
    for (let i = 0; i < 12; i++) names.add(await fetched(node, "localhost:9200", "name"));
    t.is(names.size, 3, `${node.name}: ${[...names]}`);
    t.is(await fetched(lab().client, `${node.address}:9200`, "client"), CLIENT_ADDRESS);
  }
});

systemTest("the live flows and the counters of a node show what went through it", async (t) => {
  const [node1] = lab().nodes;
  await fetched(lab().client, `${node1!.address}:9200`, "name");
  const flows = await node1!.ctlJson<FlowView[]>("flows", "--service", "search");
  const flow = flows.find(({ client }) => client.startsWith(`${CLIENT_ADDRESS}:`));
  t.truthy(flow, JSON.stringify(flows));
  t.regex(flow!.task!, /^search\.\d$/);
  t.truthy(flow!.node);
  t.true(flow!.bytes > 0);
  const endpoint = flow!.target.split(":")[0]!;
  const ofTask = await node1!.ctlJson<FlowView[]>("flows", "--endpoint", endpoint);
  t.true(ofTask.length > 0 && ofTask.every(({ client, target }) => `${client} ${target}`.includes(endpoint)));
  const stats = await node1!.ctlJson<RatedStats>("stats");
  t.true("no-route" in stats.drops && "txPackets" in stats.rates.datapath, JSON.stringify(stats));
});

systemTest("a task that is published in host mode answers on its own node only", async (t) => {
  const [node1, node2, node3] = lab().nodes;
  const options = ["--constraint node.name==rmen2", "--publish mode=host,target=9200,published=8080"];
  const created = await node1!.shell(publish("hosted", ...options));
  t.is(created.status, 0, created.stderr);
  t.is(await fetched(lab().client, `${node2!.address}:8080`, "client"), CLIENT_ADDRESS);
  for (const other of [node1!, node3!]) t.is(await fetched(lab().client, `${other.address}:8080`, "name"), "");
  const [task] = await node1!.ctlJson<TaskView[]>("service", "ps", "hosted");
  t.like(task!.ports[0], { published: 8080, target: 9200, mode: "host" });
  for (const target of [node2!.address, node3!.address]) {
    const { status } = await node1!.container("default", curlBriefly(`http://${target}:8080`));
    t.is(status === 0, target === node2!.address, target);
  }
  await node1!.ctl("service", "rm", "hosted");
});

systemTest(
  "a port on one address answers there, a range on every port, a port that nobody named on a high one",
  async (t) => {
    const [node1, node2] = lab().nodes;
    const options = [`-p ${node1!.address}:81:9200`, "-p 8000-8001:9200-9201", "-p 9200"];
    const created = await node1!.shell(publish("several", ...options));
    t.is(created.status, 0, created.stderr);
    t.not(await fetched(lab().client, `${node1!.address}:81`, "name"), "");
    t.is(await fetched(lab().client, `${node2!.address}:81`, "name"), "");
    t.is(await fetched(node1!, "127.0.0.1:81", "name"), "");
    t.not(await fetched(lab().client, `${node2!.address}:8000`, "name"), "");
    const [service] = await node1!.ctlJson<ServiceView[]>("service", "inspect", "several");
    const chosen = service!.ports.at(-1)!.published;
    t.true(chosen >= 30_000 && chosen <= 32_767);
    t.not(await fetched(lab().client, `${node2!.address}:${chosen}`, "name"), "");
    const clash = await node1!.shell(publish("other", "-p 81:9200"));
    t.regex(clash.stderr, /192\.0\.2\.11:81\/tcp is published by service 'several'/);
    await node1!.ctl("service", "rm", "several");
  },
);

systemTest(
  "with --ingress-source-nat tasks see their gateway as the client, from outside and from a node",
  async (t) => {
    const [node1, node2] = lab().nodes;
    const created = await node1!.shell(publish("routed", "--ingress-source-nat", "--replicas 3", "-p 82:9200"));
    t.is(created.status, 0, created.stderr);
    const [network] = await node1!.ctlJson<{ gateway: string }[]>("network", "inspect", "default");
    for (let i = 0; i < 6; i++) {
      t.is(await fetched(lab().client, `${node2!.address}:82`, "client"), network!.gateway);
      t.is(await fetched(node1!, "localhost:82", "client"), network!.gateway);
    }
    await node1!.ctl("service", "rm", "routed");
  },
);

systemTest("a port that a node's process has stays its own there, and service ps says so", async (t) => {
  const [node1, node2, node3] = lab().nodes;
  const server = `require("http").createServer((q, s) => s.end("own")).listen(8090, "0.0.0.0", () => console.log("holds"))`;
  const holder = new Background(node2!.inside([process.execPath, "-e", server]));
  t.teardown(() => holder.end("SIGKILL"));
  await holder.says("holds");
  const created = await node1!.shell(publish("shared", "-p 8090:9200"));
  t.is(created.status, 0, created.stderr);
  await waitFor(
    async () => /rmen2 does not answer 8090\/tcp/.test((await node1!.shell("overlayctl service ps shared")).stderr),
    { what: "service ps to say who has the port" },
  );
  const { stdout } = await lab().client.tryExec(curl(`http://${node2!.address}:8090`));
  t.is(stdout, "own");
  t.not(await fetched(lab().client, `${node3!.address}:8090`, "name"), "");
  await node1!.ctl("service", "rm", "shared");
});

systemTest("a published port of a service without tasks refuses, by TCP and UDP", async (t) => {
  const [node1, node2] = lab().nodes;
  const ports = ["-p", "83:7", "-p", "83:7/udp"];
  await node1!.ctl("service", "create", "--name", "none", "--replicas", "0", ...ports, "--", "sleep", "60");
  for (const host of [lab().client, node1!, node2!]) {
    const tcp = await host.tryExec(curl(`http://${node2!.address}:83`));
    t.is(tcp.status, 7, host.netns);
    const { stderr } = await host.tryExec(program("ask", "udp", node2!.address, 83, 1));
    t.regex(stderr, /ECONNREFUSED/, host.netns);
  }
  await node1!.ctl("service", "rm", "none");
});

systemTest("UDP keeps the client's address too", async (t) => {
  const [node1, , node3] = lab().nodes;
  await node1!.ctl("service", "create", "--name", "echo", "-p", "53:7/udp", "--", ...program("echo-server", 7));
  const { stdout, stderr } = await lab().client.tryExec(program("ask", "udp", node3!.address, 53, 3));
  t.is(stderr, "");
  for (const line of stdout.trim().split("\n")) t.is(line.split(" ")[1], CLIENT_ADDRESS);
  await node1!.ctl("service", "rm", "echo");
});

systemTest("a UDP client that sends all the while is answered once its port is published", async (t) => {
  const [node1, , node3] = lab().nodes;
  const script = `const s = require("dgram").createSocket("udp4");
    s.on("message", (m) => console.log("answered " + m)); s.on("error", () => {});
    setInterval(() => s.send("x", 5300, "${node3!.address}"), 100);`;
  const client = new Background(lab().client.inside([process.execPath, "-e", script]));
  t.teardown(() => client.end("SIGKILL"));
  const entries = () => node3!.exec(["conntrack", "-L", "-p", "udp"]);
  await waitFor(async () => (await entries()).includes("dport=5300"), { what: "the kernel to track the client" });
  await node1!.ctl("service", "create", "--name", "late", "-p", "5300:7/udp", "--", ...program("echo-server", 7));
  await client.says("answered");
  t.regex(client.output, new RegExp(`answered \\S+ ${CLIENT_ADDRESS} x`));
  await node1!.ctl("service", "rm", "late");
});

/** Sends on and on from one socket, and counts what comes back from where it sent to. */
function chatter(host: LabHost, target: string, port: number): Background {
  const script = `const s = require("dgram").createSocket("udp4");
    let count = 0;
    s.on("message", (m, from) => console.log(from.address === "${target}" ? "answer " + ++count : "strange", String(m)));
    s.on("error", () => {}); setInterval(() => s.send("x", ${port}, "${target}"), 20);`;
  return new Background(host.inside([process.execPath, "-e", script]));
}

/** Resolves when it has been answered anew. */
async function answeredAgain(client: Background): Promise<void> {
  const answers = () => client.output.split("answer ").length;
  const before = answers();
  await waitFor(() => answers() > before + 5, { what: "new answers" });
}

systemTest("a UDP client is answered again after another program took away rules and the kernel's flows", async (t) => {
  const [node1, , node3] = lab().nodes;
  await node1!.ctl("service", "create", "--name", "echo", "-p", "5300:7/udp", "--", ...program("echo-server", 7));
  const client = chatter(lab().client, node3!.address, 5300);
  t.teardown(() => client.end("SIGKILL"));
  await answeredAgain(client);
  const entries = () => node3!.exec(["conntrack", "-L", "-p", "udp"]);
  // As Docker's do: without rules about flows the kernel has none.
  const rules = "table ip other { chain in { type filter hook prerouting priority 0; ct state new counter; }; }";
  await node3!.exec(["nft", rules]);
  process.kill(node3!.agentPid!, "SIGSTOP"); // the client meets a node without rules
  await node3!.exec(["sh", "-c", "nft delete table ip overlayd; conntrack -F"]);
  await waitFor(async () => (await entries()).includes("dport=5300"), { what: "the kernel to track the client" });
  process.kill(node3!.agentPid!, "SIGCONT");
  await answeredAgain(client);
  await node3!.exec(["nft", "delete table ip other"]);
  const before = client.output.length;
  for (let i = 0; i < 10; i++) await node3!.exec(["conntrack", "-F"]);
  await answeredAgain(client);
  t.false(client.output.slice(before).includes("strange"), "a virtual IP is never seen outside");
  await node1!.ctl("service", "rm", "echo");
});

systemTest("a UDP port that a process gives up goes to the mesh, also for a client that never pauses", async (t) => {
  const [node1, , node3] = lab().nodes;
  const server = `require("dgram").createSocket("udp4").bind(5301, () => console.log("holds"))`;
  const holder = new Background(node3!.inside([process.execPath, "-e", server]));
  t.teardown(() => holder.end("SIGKILL"));
  await holder.says("holds");
  await node1!.ctl("service", "create", "--name", "echo", "-p", "5301:7/udp", "--", ...program("echo-server", 7));
  const client = chatter(lab().client, node3!.address, 5301);
  t.teardown(() => client.end("SIGKILL"));
  await waitFor(
    async () => /rmen3 does not answer 5301\/udp/.test((await node1!.shell("overlayctl service ps echo")).stderr),
    { what: "service ps to say who has the port" },
  );
  t.is(client.output, "");
  await holder.end("SIGKILL");
  await answeredAgain(client);
  await node1!.ctl("service", "rm", "echo");
});

systemTest(
  "a node with `mesh: off` answers no published port; when a node is taken down nothing of it is left",
  async (t) => {
    const [node1, , node3] = lab().nodes;
    await node3!.stopAgent();
    await node3!.exec(["sh", "-c", `echo 'mesh: off' >> ${node3!.configPath}`]);
    await node3!.startAgent();
    await untilRunning(node1!, "search", 3);
    await waitFor(async () => (await fetched(lab().client, `${node3!.address}:9200`, "name")) === "", {
      what: "the port to be closed",
    });
    t.not(await fetched(lab().client, `${node1!.address}:9200`, "name"), "");
    t.is((await runningTasks(node1!, "search")).length, 3);
    t.regex(
      (await node1!.shell("overlayctl service ps search")).stderr,
      /rmen3 does not answer 9200\/tcp: .*mesh: off/,
    );
    t.regex(await node1!.ctl("node", "ls"), /rmen2 .* on .*\n.*rmen3 .* off /);
    const options = ["--replicas 3 --detach", "--publish mode=host,target=9200,published=8080"];
    t.is((await node1!.shell(publish("hosted", ...options))).status, 0);
    const listing = (await node1!.shell("overlayctl service ps --no-trunc hosted")).stdout;
    t.regex(listing, /1 node answers no published port \('mesh: off'\)/);
    await node1!.ctl("service", "rm", "hosted");
    const fromContainer = await node1!.container("default", curlBriefly(`http://${node3!.address}:9200`));
    t.not(fromContainer.status, 0);
    await node3!.stopAgent();
    await node3!.exec(["overlayd", "down", "--config", node3!.configPath]);
    t.is((await node3!.exec(["nft", "list", "ruleset"])).trim(), "");
  },
);
