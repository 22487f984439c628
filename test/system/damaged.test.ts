// A node whose identity is damaged, file by file: its containers and names go on, it says which file it is and what to type, and
// what is typed mends it.
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { ExecutionContext } from "ava";
import type { NodeView, TaskView } from "../../src/api/schema.ts";
import { flipped } from "../trust/cluster.ts";
import { waitFor } from "./command.ts";
import type { LabNode } from "./lab.ts";
import { namespaceOf, processOf, runningTasks, untilRunning } from "./listings.ts";
import { statusOf } from "./managers.ts";
import { program } from "./program.ts";
import { systemTest, useLab } from "./system-test.ts";

/** Two managers, and a worker. No test takes as long as it takes until a node is down. */
const lab = useLab(
  { prefix: "dmg", nodes: 3, managers: 2, cluster: { livenessMs: 120_000 } },
  async ({ nodes: [node1] }) => {
    await node1!.ctl("network", "create", "web");
    await node1!.ctl(
      ...["service", "create", "--name", "echo", "--replicas", "3", "--network", "web"],
      ...["--", ...program("echo-server", 7)],
    );
    await untilRunning(node1!, "echo", 3);
  },
);

interface Running {
  task: TaskView;
  pid: number;
}

async function runningOn(node: LabNode): Promise<Running> {
  const tasks = await runningTasks(lab().nodes[0]!, "echo");
  const task = tasks.find((one) => one.node === node.name)!;
  return { task, pid: await processOf(task) };
}

/** The task has its process, and in it the service is found by its name and answers. */
async function goesOn(t: ExecutionContext, node: LabNode, { task, pid }: Running): Promise<void> {
  t.is(await processOf(task), pid);
  const argv = ["ip", "netns", "exec", namespaceOf(task), ...program("ask", "tcp", "echo", 7, 4)];
  const { status, stderr } = await node.tryExec(argv);
  t.is(status, 0, stderr);
}

function identityPath(node: LabNode, file: string): string {
  return join(node.directory, "data", "identity", file);
}

/** Restarts the agent on what `harm` leaves. */
async function damaged(node: LabNode, harm: () => void): Promise<void> {
  await node.stopAgent();
  harm();
  await node.startAgent();
}

async function joinAgain(t: ExecutionContext, node: LabNode, role: "manager" | "worker"): Promise<void> {
  const token = await lab().token(role);
  const joined = await node.shell(`overlayctl join ${lab().nodes[0]!.address}:2377 --token ${token}`);
  t.is(joined.status, 0, joined.stderr);
  t.is(joined.stdout, `This node joined the cluster as a ${role}.\n`);
}

const HARMS: [what: string, file: string, harm: (path: string) => void][] = [
  ["a certificate that is cut", "node.crt", (path) => writeFileSync(path, readFileSync(path, "utf8").slice(0, 200))],
  [
    "a certificate with another byte",
    "node.crt",
    (path) => writeFileSync(path, flipped(readFileSync(path, "utf8"), -1)),
  ],
  ["no CAs", "ca.crt", rmSync],
  ["where managers are cut off", "node.json", (path) => writeFileSync(path, '{"managers":')],
];
for (const [what, file, harm] of HARMS) {
  systemTest(`a worker with ${what} goes on, says so, and joins again with its tasks`, async (t) => {
    const [node1, , worker] = lab().nodes as [LabNode, LabNode, LabNode];
    const running = await runningOn(worker);
    await damaged(worker, () => harm(identityPath(worker, file)));
    await goesOn(t, worker, running);
    const words = new RegExp(`${file.replace(".", "\\.")} cannot be used: .*'overlayctl join MANAGER:2377 --token T'`);
    t.regex((await worker.shell("overlayctl node ls")).stderr, words);
    t.regex(worker.logTail(50), words);
    t.not((await worker.shell("overlayctl service ls")).stdout, "");

    await joinAgain(t, worker, "worker");
    t.deepEqual(await runningOn(worker), running);
    await goesOn(t, worker, running);
    t.is((await node1.ctlJson<NodeView[]>("node", "ls")).length, 3);
    t.is((await worker.shell("overlayctl node ls")).stderr, "");
  });
}

systemTest(
  "a manager has lost keys again from its newest export, and cut settings from its snapshot, and stands by",
  async (t) => {
    const [node1, standby] = lab().nodes as [LabNode, LabNode];
    const running = await runningOn(standby);
    const keys = identityPath(standby, "manager.keys");
    // As it writes one a day.
    const name = "daily-2026-11-30T00-00-00.000Z-r1.jsonl";
    const exports = join(standby.directory, "data", "exports", (await statusOf(node1)).cluster);
    mkdirSync(exports, { recursive: true });
    await standby.ctl("cluster", "export", join(exports, name));
    const settings = join(standby.directory, "data", "settings.json");
    const before = readFileSync(settings, "utf8");
    await damaged(standby, () => {
      rmSync(keys);
      writeFileSync(settings, before.slice(0, 10));
    });
    await goesOn(t, standby, running);
    t.true(existsSync(keys));
    t.regex(standby.logTail(50), /keys of the certificate authorities are brought back from the newest export/);
    t.is(readFileSync(settings, "utf8"), before);
    t.regex(standby.logTail(50), /what this node was told when it joined is taken from its snapshot/);
    await waitFor(async () => (await statusOf(node1)).managers.every(({ role }) => role !== "unreachable"), {
      what: "both managers to be well",
    });
  },
);

for (const [what, harm] of [
  ["lost", rmSync],
  ["damaged", (path: string) => writeFileSync(path, readFileSync(path, "utf8").replace(/..$/m, "xx"))],
] as const) {
  systemTest(
    `a manager whose keys are ${what}, without an export, says what to type, and joins again for them`,
    async (t) => {
      const [node1, standby] = lab().nodes as [LabNode, LabNode];
      const running = await runningOn(standby);
      const keys = identityPath(standby, "manager.keys");
      await damaged(standby, () => {
        harm(keys);
        rmSync(join(standby.directory, "data", "exports"), { recursive: true, force: true });
      });
      await goesOn(t, standby, running);
      const words =
        /manager\.keys (is missing|cannot be used: the passphrase is wrong, or .* changed); .*'overlayctl join MANAGER:2377 --token T'/;
      t.regex((await standby.shell("overlayctl node ls")).stderr, words);
      t.regex((await standby.shell("overlayctl cluster status")).stderr, words);
      t.regex(standby.logTail(50), words);

      await joinAgain(t, standby, "manager");
      await goesOn(t, standby, running);
      t.deepEqual(await runningOn(standby), running);
      await waitFor(async () => (await statusOf(node1)).managers.every(({ role }) => role !== "unreachable"), {
        what: "both managers to be well",
      });
      t.is((await standby.shell("overlayctl node ls")).stderr, "");
      const again = await standby.shell(
        `overlayctl join ${node1.address}:2377 --token ${await lab().token("manager")}`,
      );
      t.regex(again.stderr, /this node is a member of cluster .* already/);
    },
  );
}

systemTest("a worker whose key is damaged goes on, and joins again once its row is removed", async (t) => {
  const [node1, , worker] = lab().nodes as [LabNode, LabNode, LabNode];
  const running = await runningOn(worker);
  const key = identityPath(worker, "node.key");
  await damaged(worker, () => writeFileSync(key, flipped(readFileSync(key, "utf8"), 40)));
  await goesOn(t, worker, running);
  t.regex((await worker.shell("overlayctl node ls")).stderr, /node\.key cannot be used: .* unless node\.key is lost/);
  const token = await lab().token("worker");
  const line = `overlayctl join ${node1.address}:2377 --token ${token}`;
  const refused = await worker.shell(line);
  t.regex(
    refused.stderr,
    new RegExp(`the name '${worker.name}' is that of a node with another key; .*'overlayctl node rm ${worker.name}'`),
  );
  await node1.ctl("node", "rm", "--force", worker.name);
  const joined = await worker.shell(line);
  t.is(joined.status, 0, joined.stderr);
  await untilRunning(node1, "echo", 3);
  t.is((await worker.shell("overlayctl node ls")).stderr, "");
});
