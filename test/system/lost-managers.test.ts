// Three managers and two workers as processes in namespaces, under writers, readers and HTTP clients: a fourth manager comes and
// goes, a member's disk is full, a manager's machine is replaced, and all managers are lost. The service's tasks are on the workers.
import { copyFileSync, existsSync } from "node:fs";
import { join } from "node:path";
import type { ExecutionContext } from "ava";
import { Clients, createWeb, insideWeb } from "./clients.ts";
import { type Finished, waitFor } from "./command.ts";
import { fillDisk, giveDisk, makeRoom } from "./disk.ts";
import type { LabNode } from "./lab.ts";
import { processOf, untilRunning } from "./listings.ts";
import { loseMachine, membersOfEtcd, statusOf, untilWhole } from "./managers.ts";
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

/** What is asked is never done, and is refused with these words once the managers have settled. */
async function untilRefused(ask: () => Promise<Finished>, words: RegExp): Promise<void> {
  const found = await waitFor(
    async () => {
      const answer = await ask();
      if (answer.status !== 0 && !words.test(answer.stderr)) throw new Error(answer.stderr);
      return answer;
    },
    { what: `a refusal with ${words}` },
  );
  if (found.status === 0) throw new Error(`it was done, and not refused with ${words}`);
}

/** How many members of etcd vote. */
async function votersOf(node: LabNode): Promise<number> {
  return (await membersOfEtcd(node)).filter(({ votes }) => votes).length;
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
  t.is(await votersOf(node1), 4);
  const keys = join(node4.directory, "data/identity/manager.keys");
  const etcd = join(node4.directory, "data/etcd");
  t.true(existsSync(keys) && existsSync(etcd));

  const demoted = await node1.tryExec(["overlayctl", "node", "demote", node4.name]);
  t.deepEqual([demoted.status, demoted.stderr], [0, ""]);
  await untilWhole(lab().nodes, 3);
  await waitFor(async () => (await votersOf(node1)) === 3, { what: "etcd to have three members" });
  await waitFor(() => !existsSync(keys), { what: "its keys to be deleted" });
  await waitFor(() => !existsSync(etcd), { what: "the data of its etcd to be deleted" });
  await waitFor(async () => (await node4.api.status()).connected, { what: "it to be a worker" });
  t.regex((await node4.tryExec(["overlayctl", "network", "create", "own"])).stderr, /manager/);
  await end(t, clients);
});

for (const [whose, isLeader] of [
  ["another manager's", false],
  ["the leader's", true],
] as const) {
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

systemTest("a manager's machine is lost and replaced, and a majority is well all the time", async (t) => {
  const { leader } = await untilWhole(managers());
  const lost = managers().find(({ name }) => name === leader)!;
  const [left, other] = managers().filter((node) => node !== lost) as [LabNode, LabNode];
  const clients = await begin(t, "lost", [left, other]);
  await loseMachine(lost);
  await clients.nextWrite();
  const rm = (...words: string[]) => left.tryExec(["overlayctl", "node", "rm", ...words]);
  await untilRefused(
    () => rm("--force", other.name),
    new RegExp(`without node '${other.name}' the managers would have no majority: 1 of 2 .*${lost.name}`),
  );

  await lab().replaceMachine(lost);
  await lost.startAgent();
  const { token } = await waitFor(() => left.api.joinToken("manager"), { what: "a manager's token" });
  const join = () => lost.tryExec(["overlayctl", "join", `${left.address}:2377`, "--token", token]);
  await untilRefused(join, new RegExp(`node with another key.*'overlayctl node rm ${lost.name}'`));

  const isRemoved = async () => {
    const { status, stderr } = await rm(lost.name);
    if (status !== 0 && !/there is no node/.test(stderr)) throw new Error(stderr); // the answer may have been lost
    return true;
  };
  await waitFor(isRemoved, { what: "the lost node to be seen as down, and removed", everyMs: 500 });
  await waitFor(async () => (await votersOf(left)) === 2, { what: "etcd to have two members" });
  const isJoined = async () => {
    const { status, stderr } = await join();
    if (status !== 0) throw new Error(stderr);
    return true;
  };
  await waitFor(isJoined, { what: "the new machine to be a member" });
  await untilWhole(managers());
  t.is(await votersOf(lost), 3);
  await end(t, clients);
});

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
