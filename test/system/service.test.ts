// A service on three nodes: its name, its virtual IP, its tasks. Containers speak, the kernel carries.
import type { TaskView } from "../../src/api/schema.ts";
import { curl, dig, IN_VAIN_MS, ping, waitFor } from "./command.ts";
import {
  addressOf,
  MAX_SKEW,
  namespaceOf,
  networkOf,
  processOf,
  runningTasks,
  untilRunning,
  vipOf,
} from "./listings.ts";
import { program } from "./program.ts";
import { systemTest, useLab } from "./system-test.ts";

const lab = useLab({ prefix: "svc", nodes: 3 }, async ({ nodes: [node1] }) => {
  await node1!.ctl("network", "create", "web");
  await node1!.ctl(
    ...[
      "service",
      "create",
      "--name",
      "echo",
      "--replicas",
      "3",
      "--network",
      "web",
      "--",
      ...program("echo-server", 7),
    ],
  );
});

/** Who answered, by the first word of each line. */
function shares(output: string): Map<string, number> {
  const counts = new Map<string, number>();
  for (const line of output.trim().split("\n")) {
    const who = line.split(" ")[0]!;
    counts.set(who, (counts.get(who) ?? 0) + 1);
  }
  return counts;
}

systemTest("each node runs one task", async (t) => {
  const tasks = await runningTasks(lab().nodes[0]!, "echo");
  t.deepEqual(tasks.map(({ node }) => node).sort(), ["svcn1", "svcn2", "svcn3"]);
});

systemTest("a container on any node finds the service, its tasks and their names in DNS", async (t) => {
  const [node1] = lab().nodes;
  const vip = await vipOf(node1!, "echo");
  const tasks = await runningTasks(node1!, "echo");
  const addresses = tasks.map(addressOf).sort();
  const first = addressOf(tasks.find(({ slot }) => slot === 1)!);
  for (const node of lab().nodes) {
    const ask = async (...words: string[]) => {
      const { stdout } = await node.container("web", dig("+short", ...words));
      return stdout.trim().split("\n").sort();
    };
    t.deepEqual(await ask("echo"), [vip], node.name);
    t.deepEqual(await ask("echo.web"), [vip], node.name);
    t.deepEqual(await ask("tasks.echo"), addresses, node.name);
    t.deepEqual(await ask("echo.1"), [first], node.name);
    t.deepEqual(await ask("+tcp", "echo"), [vip], node.name);
    t.regex((await ask("-x", first))[0]!, /^echo\.1\./, node.name);
  }
  const missing = await node1!.container("web", dig("nonesuch"));
  t.regex(missing.stdout, /status: NXDOMAIN/);
});

for (const protocol of ["tcp", "udp"] as const) {
  systemTest(`${protocol} to the virtual IP is balanced over local and remote tasks, from every node`, async (t) => {
    for (const node of lab().nodes) {
      const { stdout, stderr, status } = await node.container("web", program("ask", protocol, "echo", 7, 30));
      t.is(status, 0, `${node.name}: ${stderr}`);
      const counts = [...shares(stdout).values()];
      t.is(counts.length, 3, `${node.name}: ${stdout}`);
      for (const count of counts) t.true(Math.abs(count - 10) <= MAX_SKEW, `${node.name}: ${stdout}`);
    }
  });
}

systemTest("a task sees the container that asks, not a node", async (t) => {
  const [, node2] = lab().nodes;
  const script = `ip -4 -o address show dev eth0 | awk '{print $4}'; ${program("ask", "tcp", "echo", 7, 3).join(" ")}`;
  const { stdout } = await node2!.container("web", ["sh", "-c", script]);
  const [own, ...answers] = stdout.trim().split("\n");
  t.is(answers.length, 3);
  for (const answer of answers) t.is(`${answer.split(" ")[1]}/32`, own!);
});

systemTest("the virtual IP and every task answer ping", async (t) => {
  const tasks = await runningTasks(lab().nodes[0]!, "echo");
  for (const target of ["echo", ...tasks.map(addressOf)]) {
    const { stdout, status } = await lab().nodes[0]!.container("web", ping(target, "-c2", "-i0.2"));
    t.is(status, 0, `${target}: ${stdout}`);
  }
});

systemTest(
  "a task that calls its own virtual IP is answered, also by itself, and then sees the VIP as client",
  async (t) => {
    const [node1] = lab().nodes;
    const vip = await vipOf(node1!, "echo");
    const [task] = await runningTasks(node1!, "echo");
    const { stdout, stderr, status } = await node1!.tryExec([
      ...["ip", "netns", "exec", namespaceOf(task!)],
      ...program("ask", "tcp", "echo", 7, 12),
    ]);
    t.is(status, 0, stderr);
    t.is(shares(stdout).size, 3, stdout);
    const own = stdout.split("\n").filter((line) => line.startsWith(`${addressOf(task!)} `));
    for (const line of own) t.is(line.split(" ")[1], vip!);
  },
);

systemTest("the node itself reaches its own task, and by the virtual IP no port that is not published", async (t) => {
  const [node1] = lab().nodes;
  const tasks = await runningTasks(node1!, "echo");
  const local = tasks.find(({ node }) => node === node1!.name)!;
  const { status, stderr } = await node1!.tryExec(program("ask", "tcp", addressOf(local), 7, 3));
  t.is(status, 0, stderr);
  t.not((await node1!.tryExec(program("ask", "tcp", (await vipOf(node1!, "echo"))!, 7, 3, IN_VAIN_MS))).status, 0);
});

systemTest("a large transfer arrives whole, through the virtual IP and across nodes", async (t) => {
  const [node1, node2] = lab().nodes;
  const server = `require("http").createServer((q, s) => s.end(Buffer.alloc(2e7, "overlay"))).listen(80)`;
  await node1!.ctl(
    ...["service", "create", "--name", "blob", "--network", "web", "--constraint", "node.name==svcn1"],
    ...["--", process.execPath, "-e", server],
  );
  const { stdout } = await node2!.container("web", ["sh", "-c", `${curl("http://blob").join(" ")} | sha256sum`]);
  const expected = await node1!.exec([
    process.execPath,
    "-e",
    `console.log(require("crypto").createHash("sha256").update(Buffer.alloc(2e7, "overlay")).digest("hex"))`,
  ]);
  t.is(stdout.split(" ")[0], expected.trim());
  await node1!.ctl("service", "rm", "blob");
});

systemTest("scale adds tasks and removes them, and their names follow", async (t) => {
  const [node1, node2] = lab().nodes;
  for (const replicas of [5, 2, 3]) {
    await node1!.ctl("service", "scale", `echo=${replicas}`);
    const tasks = await untilRunning(node1!, "echo", replicas);
    const { stdout } = await node2!.container("web", dig("+short", "tasks.echo"));
    t.deepEqual(stdout.trim().split("\n").sort(), tasks.map(addressOf).sort());
  }
});

systemTest("a task whose process is killed is started again in its place", async (t) => {
  const [node1] = lab().nodes;
  const [victim] = await runningTasks(node1!, "echo");
  process.kill(await processOf(victim!), "SIGKILL");
  const restarted = await waitFor(
    async () => (await runningTasks(node1!, "echo")).find(({ id, restarts }) => id === victim!.id && restarts > 0),
    { what: "the task to be started again" },
  );
  t.deepEqual(restarted.addresses, victim!.addresses);
  const { status, stdout, stderr } = await node1!.container("web", program("ask", "tcp", "echo", 7, 12));
  t.is(status, 0, stderr);
  t.is(shares(stdout).size, 3);
});

systemTest("a task that cannot start says why", async (t) => {
  const [node1] = lab().nodes;
  await node1!.ctl("service", "create", "--detach", "--name", "typo", "--network", "web", "--", "no-such-command");
  const task = await waitFor(
    async () => (await node1!.ctlJson<TaskView[]>("service", "ps", "typo")).find(({ error }) => error !== null),
    { what: "the task's reason" },
  );
  t.regex(task.error!, /no-such-command/);
  await node1!.ctl("service", "rm", "typo");
});

systemTest("a node that is lost has its tasks replaced, and takes its place again when it returns", async (t) => {
  const [node1, , node3] = lab().nodes;
  await node3!.killAgent();
  const moved = await waitFor(
    async () => {
      const tasks = await runningTasks(node1!, "echo");
      return tasks.length === 3 && tasks.every(({ node }) => node !== node3!.name) && tasks;
    },
    { what: "the lost node's task to run elsewhere" },
  );
  t.is(new Set(moved.map(addressOf)).size, 3);
  await node3!.startAgent();
  await node1!.ctl("service", "scale", "echo=4");
  const tasks = await untilRunning(node1!, "echo", 4);
  t.true(tasks.some(({ node }) => node === node3!.name));
  await waitFor(async () => (await networkOf(node1!, "web")).endpoints.length === 4, {
    what: "surplus tasks to be gone",
  });
  await node1!.ctl("service", "scale", "echo=3");
});

systemTest("a service that is removed leaves no name, no task and no namespace", async (t) => {
  const [node1, node2] = lab().nodes;
  await node1!.ctl("service", "rm", "echo");
  await waitFor(async () => (await node2!.container("web", dig("echo"))).stdout.includes("NXDOMAIN"), {
    what: "the name to go",
  });
  const left = await waitFor(
    async () => {
      const names = (await node1!.exec(["ls", "/run/netns"])).split("\n");
      return !names.some((name) => name.startsWith("ovl-svcn")) && names;
    },
    { what: "the tasks' namespaces to go" },
  );
  t.false(left.some((name) => name.startsWith("ovl-svcn")));
});
