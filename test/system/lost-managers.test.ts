// Three managers and two workers as processes in namespaces, under writers, readers and HTTP clients: a fourth manager comes and
// goes, a member's disk is full, and all managers are lost. The service's tasks are on the workers.
import { copyFileSync, existsSync } from "node:fs";
import { join } from "node:path";
import type { ExecutionContext } from "ava";
import { Clients, createWeb, insideWeb } from "./clients.ts";
import { waitFor } from "./command.ts";
import { fillDisk, giveDisk, makeRoom } from "./disk.ts";
import type { LabNode } from "./lab.ts";
import { processOf, untilRunning } from "./listings.ts";
import { loseMachine, statusOf, untilWhole } from "./managers.ts";
import { systemTest, useLab } from "./system-test.ts";

const lab = useLab({ prefix: "los", nodes: 5, managers: 3 }, createWeb, {
  beforeAgents: async ({ nodes }) => {
    for (const node of nodes.slice(0, 3)) await giveDisk(node);
  },
});

const managers = (): LabNode[] => lab().nodes.slice(0, 3);
const workers = (): LabNode[] => lab().nodes.slice(3);

async function begin(t: ExecutionContext, prefix: string, asked: readonly LabNode[] = managers()): Promise<Clients> {
  const inside = await insideWeb(workers()[0]!);
  const clients = new Clients({ lab: lab(), prefix, managers: asked, doors: workers(), inside });
  t.teardown(() => clients.end());
  if (asked.length > 0) await clients.nextWrite();
  return clients;
}

async function end(t: ExecutionContext, clients: Clients, by?: LabNode): Promise<void> {
  await clients.nextWrite();
  await clients.judge(t, by);
  t.deepEqual(clients.failedRequests, []);
}

/** The names of the members of etcd that vote, as the manager's own one lists them. */
async function votersOf(node: LabNode): Promise<string[]> {
  const file = (name: string) => join(node.directory, "data/etcd", name);
  const tls = ["--cacert", file("ca.crt"), "--cert", file("member.crt"), "--key", file("member.key")];
  const url = "https://127.0.0.1:2378/v3/cluster/member/list";
  const { members } = JSON.parse(await node.exec(["curl", "-sS", ...tls, "-d", "{}", url])) as {
    members: { name: string; isLearner?: boolean }[];
  };
  return members.filter(({ isLearner }) => isLearner !== true).map(({ name }) => name);
}

systemTest("a fourth manager brings a warning; when it is demoted its etcd and its keys are gone", async (t) => {
  const [node1] = managers() as [LabNode];
  const [node4] = workers() as [LabNode];
  await untilWhole(managers());
  const clients = await begin(t, "even");
  const promoted = await node1.tryExec(["overlayctl", "node", "promote", node4.name]);
  t.regex(promoted.stderr, /4 managers can lose no more than 3 can: 5 or 3 are better/);
  await untilWhole(lab().nodes, 4);
  t.true((await statusOf(node1)).warnings.some((warning) => warning.startsWith("4 managers can lose no more than 3")));
  t.is((await votersOf(node1)).length, 4);
  const keys = join(node4.directory, "data/identity/manager.keys");
  const etcd = join(node4.directory, "data/etcd");
  t.true(existsSync(keys) && existsSync(etcd));

  const demoted = await node1.tryExec(["overlayctl", "node", "demote", node4.name]);
  t.deepEqual([demoted.status, demoted.stderr], [0, ""]);
  await untilWhole(lab().nodes, 3);
  await waitFor(async () => (await votersOf(node1)).length === 3, { what: "etcd to have three members" });
  await waitFor(() => !existsSync(keys), { what: "its keys to be deleted" });
  await waitFor(() => !existsSync(etcd), { what: "the data of its etcd to be deleted" });
  await waitFor(async () => (await node4.api.status()).connected, { what: "it to be a worker" });
  t.regex((await node4.tryExec(["overlayctl", "network", "create", "own"])).stderr, /manager/);
  await end(t, clients);
});

for (const [whose, isLeader] of [["another manager's", false]] as const) {
  systemTest(
    `the disk of ${whose} etcd is full: the status says so, and it comes back by itself when there is room`,
    async (t) => {
      const { leader } = await untilWhole(managers());
      const victim = managers().find(({ name }) => (name === leader) === isLeader)!;
      const others = managers().filter((node) => node !== victim);
      const clients = await begin(t, isLeader ? "fulll" : "fullo");
      await fillDisk(victim);
      const row = await waitFor(
        async () => {
          const rows = (await statusOf(others[0]!)).managers;
          return rows.find(
            ({ node, problem, mend }) => node === victim.name && problem !== null && /room/.test(mend ?? ""),
          );
        },
        { what: "the status to say that the disk is full" },
      );
      t.log(`${row.problem}: ${row.mend}`);
      t.regex(row.problem!, /no space left on device|only \d+ MiB are free/);
      t.log(`a write succeeded ${Math.round(await clients.nextWrite())} ms later`);
      const isLeftAlone = async () =>
        (await statusOf(others[0]!)).managers.find(({ node }) => node === victim.name)?.etcd?.process === "failed";
      if (!isLeader) await waitFor(isLeftAlone, { what: "its etcd to have ended so often that it is left alone" });
      await makeRoom(victim);
      await untilWhole(managers());
      await end(t, clients, others[0]);
    },
  );
}

systemTest(
  "all managers are lost: an export is imported on a bare machine, and the workers' tasks never notice",
  async (t) => {
    const [node1, node2, node3] = managers() as [LabNode, LabNode, LabNode];
    await untilWhole(managers());
    const kept = join(lab().directory, "kept");
    await node1.ctl("cluster", "export", `${kept}.jsonl`);
    copyFileSync(join(node1.directory, "data/identity/passphrase"), `${kept}.passphrase`);
    const tasks = await untilRunning(node1, "web", 2);
    const before = await Promise.all(tasks.map(processOf));
    const clients = await begin(t, "none", []);
    for (const node of managers()) await loseMachine(node);
    for (const node of managers()) await lab().replaceMachine(node);
    for (const node of managers()) await node.startAgent();
    const imported = await node1.ctl("cluster", "import", `${kept}.jsonl`, "--passphrase-file", `${kept}.passphrase`);
    t.regex(imported, /This node leads cluster/);
    const isRemoved = async ({ name }: LabNode) =>
      (await node1.tryExec(["overlayctl", "node", "rm", "--force", name])).status === 0;
    for (const node of [node2, node3]) await waitFor(() => isRemoved(node), { what: `${node.name} to be removed` });
    for (const node of [node2, node3]) {
      const { token } = await node1.api.joinToken("manager");
      // Its address is free once the workers have heard that the node of before is gone.
      const join = () => node.joinCluster(`${node1.address}:2377`, token).then(() => true);
      await waitFor(join, { what: `${node.name} to join again` });
    }
    await untilWhole(managers());
    for (const worker of workers()) {
      const follows = async () => (await worker.api.nodes()).filter(({ state }) => state === "ready").length === 5;
      await waitFor(follows, { what: `${worker.name} to follow the new leader` });
    }
    const after = await untilRunning(node1, "web", 2);
    t.deepEqual(await Promise.all(after.map(processOf)), before, "the same processes");
    t.deepEqual(
      after.map(({ id, restarts }) => [id, restarts]),
      tasks.map(({ id, restarts }) => [id, restarts]),
    );
    const enough = clients.requests + 10;
    await waitFor(() => clients.requests > enough, { what: "HTTP requests" });
    await clients.end();
    t.deepEqual(clients.failedRequests, []);
    t.log(`${clients.requests} HTTP requests`);
  },
);
