// A node's life in clusters: it waits, makes one or joins one, by hand or by its configuration; it starts again with what it
// was given, also without a leader; and it leaves.
import { existsSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import test from "ava";
import { waitFor } from "./command.ts";
import type { LabNode } from "./lab.ts";
import { writeConfig } from "./lab-files.ts";
import { untilRunning } from "./listings.ts";
import { program } from "./program.ts";
import { systemTest, useLab } from "./system-test.ts";

const PASSPHRASE_FILE = "/tmp/overlayd-lab-jon-passphrase";
const TOKEN_FILE = "/tmp/overlayd-lab-jon-token";

/** The second one's passphrase is missing at first. The last one joins by its configuration, once the token is there; the others wait for what the tests type. */
const lab = useLab({
  prefix: "jon",
  nodes: 3,
  waiting: 3,
  settings: (index) =>
    [
      {},
      { cluster: { passphrase: { file: PASSPHRASE_FILE } } },
      { cluster: { join: { address: "192.0.2.11:2377", tokenFile: TOKEN_FILE } } },
    ][index]!,
});

// Also what a run that was killed has left.
const removeFiles = (): void => {
  for (const path of [PASSPHRASE_FILE, TOKEN_FILE]) rmSync(path, { force: true });
};
test.serial.before(removeFiles);
test.serial.after.always(removeFiles);

function nodes(): [LabNode, LabNode, LabNode] {
  return lab().nodes as [LabNode, LabNode, LabNode];
}

async function untilConnected(node: LabNode): Promise<void> {
  await waitFor(async () => (await node.api.status()).connected, { what: `${node.name} to have a session` });
}

systemTest(
  "an agent without a cluster has no data path, answers init and join, and says so for all else",
  async (t) => {
    const [node1] = nodes();
    t.not((await node1.tryExec(["ip", "link", "show", "overlay0"])).status, 0);
    for (const words of ["node ls", "service create --name a -- true", "run -- true", "join-token worker", "leave"]) {
      const { status, stderr } = await node1.shell(`overlayctl ${words}`);
      t.is(status, 1);
      t.is(
        stderr,
        "overlayctl: this node is in no cluster: run 'overlayctl init' or 'overlayctl join ADDRESS --token T'\n",
      );
    }
    const second = await node1.tryExec(["overlayd", "--config", node1.configPath]);
    t.is(second.status, 1);
    t.regex(second.stderr, /another agent/);
  },
);

/** Another program takes the managers' port on the node. Returns what ends it. */
async function occupied(node: LabNode): Promise<() => Promise<unknown>> {
  const pid = (await node.shell(`${program("echo-server", 2377).join(" ")} >/dev/null 2>&1 & echo $!`)).stdout.trim();
  await waitFor(async () => (await node.shell("ss -ltn | grep -q :2377")).status === 0, {
    what: "the port to be taken",
  });
  return () => node.exec(["kill", pid]);
}

systemTest("init makes a cluster, and where one is it is refused", async (t) => {
  const [node1] = nodes();
  const free = await occupied(node1);
  const taken = await node1.shell("overlayctl init");
  t.is(taken.status, 1);
  t.regex(taken.stderr, /cannot answer at 192\.0\.2\.11:2377: another process has that port .*; give another/);
  await free();
  const elsewhere = await node1.shell("overlayctl init --listen 192.0.2.99");
  t.is(elsewhere.status, 1);
  t.regex(elsewhere.stderr, /cannot answer at 192\.0\.2\.99:2377: no link of this machine has that address/);
  const made = await node1.shell("overlayctl init --session-timeout 5s --domain lab.example");
  t.is(made.status, 0, made.stderr);
  t.regex(made.stdout, /^Cluster initialized: current node \([0-9a-z]{25}\) is now a manager\.\n/);
  t.regex(made.stdout, /\n {4}overlayctl join 192\.0\.2\.11:2377 --token ovl-1-[0-9a-z-]+\n/);
  const again = await node1.shell("overlayctl init");
  t.is(again.status, 1);
  t.regex(
    again.stderr,
    /^overlayctl: there is a cluster here already: this node is a member of [0-9a-z]{25}; 'overlayctl leave'/,
  );
});

systemTest(
  "a node that its configuration has join tries until its token is there, and says what it waits for",
  async (t) => {
    const [node1, , node3] = nodes();
    const waiting = await waitFor(
      async () => {
        const { stderr } = await node3.shell("overlayctl node ls");
        return /tokenFile/.test(stderr) && stderr;
      },
      { what: "the node to say why it has not joined" },
    );
    t.regex(
      waiting,
      /the join that its configuration asks for fails: cluster\.join\.tokenFile: cannot read it: ENOENT/,
    );
    writeFileSync(TOKEN_FILE, `${await lab().token("worker")}\n`, { mode: 0o600 });
    await untilConnected(node3);
    rmSync(TOKEN_FILE);
    t.like(
      (await node1.api.nodes()).find(({ name }) => name === node3.name),
      { role: "worker", state: "ready" },
    );
  },
);

systemTest("a passphrase that is missing is named, and nothing is made", async (t) => {
  const [, node2] = nodes();
  const rows = [
    ["init", /^overlayctl: cluster\.passphrase\.file: '.*jon-passphrase' cannot be read: ENOENT/],
    [
      "cluster import /tmp/none --passphrase-file /tmp/none",
      /^overlayctl: --passphrase-file: '\/tmp\/none' cannot be read: ENOENT/,
    ],
  ] as const;
  for (const [words, message] of rows) {
    const { status, stderr } = await node2.shell(`overlayctl ${words}`);
    t.is(status, 1);
    t.regex(stderr, message);
    writeFileSync(PASSPHRASE_FILE, "of this test\n", { mode: 0o600 });
  }
});

systemTest("join waits until the node is ready, and a second join is refused", async (t) => {
  const [node1, node2] = nodes();
  const command = `overlayctl join ${node1.address} --token ${await lab().token("worker")}`;
  const joined = await node2.shell(command);
  t.deepEqual([joined.status, joined.stdout], [0, "This node joined the cluster as a worker.\n"], joined.stderr);
  t.true((await node2.api.status()).connected);
  const again = await node2.shell(command);
  t.is(again.status, 1);
  t.regex(again.stderr, /this node is a member of cluster [0-9a-z]{25} already: 'overlayctl leave'/);
  await node1.ctl("network", "create", "web");
  await node1.ctl(
    ...["service", "create", "--name", "echo", "--replicas", "3", "--network", "web"],
    ...["--", ...program("echo-server", 7)],
  );
  t.is((await node2.container("web", program("ask", "tcp", "echo.lab.example", 7, 3))).status, 0);
});

systemTest("a worker that starts again needs no leader, and has its data path", async (t) => {
  const [node1, node2] = nodes();
  const tasks = await untilRunning(node1, "echo", 3);
  await node1.stopAgent();
  await node2.killAgent();
  await node2.startAgent();
  t.like(await node2.api.status(), { phase: "running", role: "worker", connected: false });
  t.is((await node2.container("web", program("ask", "tcp", "echo", 7, 1))).status, 1, "an address needs a leader");
  const own = tasks.find(({ node }) => node === node2.name)!;
  const inTask = ["ip", "netns", "exec", `ovl-${node2.name}-${own.id.slice(0, 8)}`];
  await waitFor(async () => (await node2.tryExec([...inTask, ...program("ask", "tcp", "echo", 7, 3)])).status === 0, {
    what: "the task to reach the service by its name",
  });
  await node1.startAgent();
  await untilConnected(node2);
  t.deepEqual(
    (await untilRunning(node1, "echo", 3)).map(({ id }) => id).toSorted(),
    tasks.map(({ id }) => id).toSorted(),
  );
});

systemTest("a node whose port of managers is taken goes on as a node, and is a manager once it is free", async (t) => {
  const [node1, node2] = nodes();
  const free = await occupied(node2);
  await node1.ctl("node", "promote", node2.name);
  await waitFor(
    () => /a manager cannot answer at 192\.0\.2\.12:2377: another process has that port/.test(node2.logTail(200)),
    {
      what: "the node to say why it is no manager",
    },
  );
  t.is((await node2.container("web", program("ask", "tcp", "echo", 7, 3))).status, 0, "containers go on");
  const status = await node2.shell("overlayctl cluster status");
  t.is(status.status, 1);
  t.regex(status.stderr, /a manager cannot answer at 192\.0\.2\.12:2377/);
  await free();
  await waitFor(async () => /Standby/.test((await node1.shell("overlayctl cluster status")).stdout), {
    what: "the node to stand by",
  });
  await node1.ctl("node", "demote", node2.name);
  await waitFor(async () => (await node2.api.status()).role === "worker", { what: "the node to be a worker again" });
  await untilConnected(node2);
});

systemTest("an agent that is stopped while it starts ends well, and the next one starts", async (t) => {
  const [, node2] = nodes();
  await node2.stopAgent();
  const started = node2.logTail(10_000).split("runs from the snapshot").length;
  node2.launchAgent();
  await waitFor(() => node2.logTail(10_000).split("runs from the snapshot").length > started, {
    what: "the agent to be starting",
    everyMs: 1,
  });
  await t.notThrowsAsync(node2.stopAgent());
  await node2.startAgent();
  await untilConnected(node2);
});

systemTest("a host that was renamed keeps its name, its tasks and its place in the cluster", async (t) => {
  const [node1, node2] = nodes();
  const tasks = await untilRunning(node1, "echo", 3);
  const { name, address, directory, configPath } = node2;
  await node2.stopAgent();
  writeConfig(configPath, { name: "another", address, directory, settings: {} });
  await node2.startAgent();
  await untilConnected(node2);
  t.regex(node2.logTail(), /this node joined its cluster as 'jonn2' and is called so until it leaves/);
  t.true((await node1.api.nodes()).some((node) => node.name === name));
  const again = await untilRunning(node1, "echo", 3);
  t.deepEqual(
    again.map(({ id, restarts }) => `${id} ${restarts}`).toSorted(),
    tasks.map(({ id }) => `${id} 0`).toSorted(),
  );
  await node2.stopAgent();
  writeConfig(configPath, { name, address, directory, settings: {} });
  await node2.startAgent();
  await untilConnected(node2);
});

systemTest("a manager whose store is gone leads nothing, says so, and takes no task from the others", async (t) => {
  const [node1, node2] = nodes();
  const store = join(node1.directory, "data/store");
  await node1.stopAgent();
  await node1.exec(["mv", store, `${store}.away`]);
  await node1.startAgent();
  const { stderr } = await node1.shell("overlayctl node ls");
  t.regex(
    stderr,
    /no cluster here: the store is empty, and this node is the only manager of cluster [0-9a-z]{25} \(put the store back from a backup/,
  );
  const { stderr: refused } = await node1.shell("overlayctl network create lost");
  t.regex(refused, /no leader answers|no cluster here/);
  t.like(await node2.api.status(), { phase: "running", connected: false });
  await node1.stopAgent();
  await node1.exec(["rm", "-rf", store]);
  await node1.exec(["mv", `${store}.away`, store]);
  await node1.startAgent();
  await untilConnected(node2);
  t.true((await untilRunning(node1, "echo", 3)).every(({ restarts }) => restarts === 0));
});

systemTest("leave says what is lost; a node that left waits, and does not join again by itself", async (t) => {
  const [node1, node2, node3] = nodes();
  const manager = await node1.shell("overlayctl leave");
  t.is(manager.status, 1);
  t.regex(
    manager.stderr,
    /this node is the only manager, and the cluster ends with it: 1 service and .* 2 other nodes have no leader/,
  );
  const worker = await node3.shell("overlayctl leave");
  t.is(worker.status, 1);
  t.regex(worker.stderr, /leaving ends what this node has: 1 task and 0 other containers/);
  writeFileSync(TOKEN_FILE, await lab().token("worker"), { mode: 0o600 });
  const left = await node3.shell("overlayctl leave --force");
  t.deepEqual(
    [left.status, left.stdout],
    [0, `Node left the cluster; run 'overlayctl node rm ${node3.name}' on a manager to remove its row.\n`],
    left.stderr,
  );
  t.like(await node3.api.status(), { phase: "waiting", role: null, cluster: null });
  for (const name of ["identity", "snapshot.json", "settings.json"])
    t.false(existsSync(join(node3.directory, "data", name)), name);
  t.not((await node3.tryExec(["ip", "link", "show", "overlay0"])).status, 0);
  t.like(
    (await node1.api.nodes()).find(({ name }) => name === node3.name),
    { state: "down" },
    "the leader has heard of it",
  );
  const removed = await node1.shell(`overlayctl node rm ${node3.name}`);
  t.is(removed.status, 0, removed.stderr);
  await untilRunning(node1, "echo", 3);
  // Its next start joins as the configuration says.
  await node3.stopAgent();
  await node3.startAgent();
  await untilConnected(node3);
  rmSync(TOKEN_FILE);

  // An agent that was stopped while its node left goes on with that.
  await node3.stopAgent();
  writeFileSync(join(node3.directory, "data/leaving"), "");
  await node3.startAgent();
  t.like(await node3.api.status(), { phase: "waiting", cluster: null });
  t.false(existsSync(join(node3.directory, "data/identity")));

  const all = await node1.shell("overlayctl leave --force");
  t.is(all.status, 0, all.stderr);
  t.like(await node1.api.status(), { phase: "waiting", cluster: null });
  t.false(existsSync(join(node1.directory, "data/store")));
  t.like(await node2.api.status(), { phase: "running", connected: false });
});
