// The agent as a process: it refuses what it cannot use, stops, is killed, comes back, and cleans up.
import { existsSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { release } from "node:os";
import { join } from "node:path";
import { flowFilesOf } from "../../src/agent/flow-file.ts";
import type { FlowView, PeerView } from "../../src/api/schema.ts";
import { Background, dig, TRY_MS, waitFor } from "./command.ts";
import type { LabNode } from "./lab.ts";
import { unmountBelow } from "./lab-removal.ts";
import { addressOf, namespaceOf, runningTasks, untilRunning } from "./listings.ts";
import { program } from "./program.ts";
import { systemTest, useLab } from "./system-test.ts";

const MEGABYTES = 50e6;
/** Index of the nice value in /proc/PID/stat, among the fields after the command's closing parenthesis. */
const NICE = 16;
const SLICE = 100_000;
/** Threads choose their slices since Linux 6.12. */
const [major, minor] = release().split(".").map(Number);
const takesSlices = major! > 6 || (major === 6 && minor! >= 12);

const lab = useLab({ prefix: "agt", nodes: 3 }, async ({ nodes: [node1] }) => {
  await node1!.ctl("network", "create", "web");
  await node1!.ctl(
    ...["service", "create", "--name", "echo", "--replicas", "3", "--network", "web", "-p", "7000:7"],
    ...["--", ...program("echo-server", 7)],
  );
});

/** A connection from a container of its own to `host`, kept busy until it is ended. */
function talk(node: LabNode, host: string): Promise<Background> {
  return inContainer(node, program("talk", host, 7)).says("talking");
}

function inContainer(node: LabNode, argv: readonly string[]): Background {
  return new Background(node.inside(["overlayctl", "run", "--network", "web", "--", ...argv]), node.env);
}

async function answers(node: LabNode, host = "echo"): Promise<boolean> {
  const { status } = await node.container("web", program("ask", "tcp", host, 7, 6, TRY_MS));
  return status === 0;
}

async function taskElsewhere(node: LabNode): Promise<string> {
  const tasks = await runningTasks(node, "echo");
  return addressOf(tasks.find((task) => task.node !== node.name)!);
}

systemTest("a mistake in the configuration names the file, the line and the field, and exits with 2", async (t) => {
  const path = join(lab().directory, "mistake.yaml");
  writeFileSync(path, "node:\n  name: x\n  address: 10.0.0.300\n");
  const { status, stderr } = await lab().client.tryExec([process.execPath, "dist/bin/overlayd.js", "--config", path]);
  t.is(status, 2);
  t.true(stderr.includes(`${path}:3: node.address: '10.0.0.300' is not an IPv4 address`), stderr);
});

systemTest("a second agent on the same node is refused, and the first goes on", async (t) => {
  const [node1] = lab().nodes;
  const path = join(lab().directory, "second.yaml");
  writeFileSync(
    path,
    `node: { name: second, address: 192.0.2.11 }
dataDir: ${lab().directory}/second
socket: ${lab().directory}/second.sock
`,
  );
  const { status, stderr } = await node1!.tryExec(["overlayd", "--config", path]);
  t.true(status !== 0 && status !== 124, stderr);
  t.regex(stderr, /another|already/);
  t.true(await answers(node1!));
});

systemTest(
  "a member of the group overlayd commands the cluster as root does, and another user is told what to do",
  async (t) => {
    const [node1] = lab().nodes;
    const bin = join(lab().directory, "readable");
    await node1!.exec(["cp", "-r", "dist/bin", bin]); // the tree may be below a home that other users do not enter
    const group = /^overlayd:[^:]*:(\d+):/m.exec(readFileSync("/etc/group", "utf8"))?.[1];
    t.not(group, undefined, "scripts/setup.sh makes the group");
    const as = (groups: string, ...words: string[]) => {
      const user = ["setpriv", "--reuid", "65534", "--regid", "65534", groups];
      return node1!.tryExec([...user, process.execPath, join(bin, "overlayctl.js"), ...words]);
    };
    const made = await as(`--groups=${group}`, "network", "create", "members");
    t.deepEqual([made.status, made.stderr], [0, ""]);
    t.regex(node1!.logTail(50), /"caller":"the local socket on node agtn1",[^\n]*"object":"members"/);
    const run = await as(`--groups=${group}`, "run", "--network", "members", "true");
    t.regex(run.stderr, /'overlayctl run' enters a network namespace, which root alone may: sudo overlayctl run/);
    t.not(run.status, 0);

    for (const words of [
      ["network", "create", "strangers"],
      ["node", "ls"],
    ]) {
      const { status, stdout, stderr } = await as("--clear-groups", ...words);
      t.deepEqual([status, stdout], [1, ""]);
      t.regex(stderr, /may not open .*overlayd\.sock: run as root or as a member of the group overlayd \(sudo/);
    }
    t.notRegex(await node1!.ctl("network", "ls"), /strangers/);
    await node1!.ctl("network", "rm", "members");
  },
);

systemTest(
  "a user of the node gets no queue of the TUN, and keeps none that an older version let it have",
  async (t) => {
    const [, node2] = lab().nodes;
    const asNobody = () => new Background(node2!.inside(program("attach-queue", "overlay0")));
    const refused = async () => {
      const child = asNobody();
      await child.says("EPERM");
      t.is(await child.ended(), 0);
    };
    await refused();
    const talking = await talk(node2!, await taskElsewhere(node2!));
    await node2!.stopAgent();
    await refused();
    await node2!.exec(["ip", "link", "del", "overlay0"]);
    await node2!.exec(["ip", "tuntap", "add", "dev", "overlay0", "mode", "tun", "multi_queue"]); // as versions before did
    const holder = await asNobody().says("attached");
    t.teardown(() => holder.end("SIGKILL"));
    await node2!.startAgent();
    await holder.says("gone");
    await refused();
    await waitFor(() => answers(node2!), { what: "the service to answer" });
    t.is(await talking.end("SIGTERM"), 0, talking.output);
  },
);

/** Hides one program of /usr/sbin from all that is started after it. */
const without = (program: string, place: string): string =>
  `mkdir -p ${place} && mount --bind /usr/sbin ${place} && mount -t tmpfs none /usr/sbin && ` +
  `ln -s ${place}/* /usr/sbin/ && rm /usr/sbin/${program}`;

systemTest("an agent without nft says what to install and stops, with `mesh: off` too", async (t) => {
  const host = await lab().addHost("bare", 90);
  const { directory } = lab();
  const path = join(directory, "bare.yaml");
  for (const [hide, message] of [
    [without("nft", `${directory}/sbin`), /'nft' is not installed.*apt-get install nftables/s],
    ['mount --bind /bin/false "$(command -v nft)"', /nftables refused: nft list tables: exit status 1/],
  ] as const) {
    writeFileSync(
      path,
      `node: { name: bare, address: 192.0.2.90 }
mesh: off
dataDir: ${directory}/bare
socket: ${directory}/bare.sock
`,
    );
    const start = `${hide} && exec ${process.execPath} dist/bin/overlayd.js --config ${path}`;
    const env = { PATH: "/usr/sbin:/usr/bin:/sbin:/bin" }; // a package in node_modules/.bin is called nft, too
    const { status, stderr } = await host.tryExec(["unshare", "--mount", "sh", "-c", start], {
      env,
    });
    t.true(status !== 0 && status !== 124, stderr);
    t.regex(stderr, message);
    t.notRegex(await host.exec(["ip", "-o", "link"]), /overlay0/);
  }
});

for (const [how, stop] of [
  ["stopped", (node: LabNode) => node.stopAgent()],
  ["killed", (node: LabNode) => node.killAgent()],
] as const) {
  systemTest(
    `an agent that is ${how} and started again adopts its links, and connections through it live on`,
    async (t) => {
      const [node1, node2] = lab().nodes;
      const toTask = await talk(node2!, await taskElsewhere(node2!));
      const toVip = await talk(node2!, "echo");
      const links = await node2!.exec(["ip", "-o", "link"]);
      await stop(node2!);
      const kept = await node2!.exec(["ip", "-o", "link"]);
      const names = (text: string) => [...text.matchAll(/^\d+: ([^:@]+)/gm)].map(([, name]) => name).sort();
      t.deepEqual(names(kept), names(links));
      await node2!.startAgent();
      t.is(await toTask.end("SIGTERM"), 0, toTask.output);
      t.is(await toVip.end("SIGTERM"), 0, toVip.output);
      const tasks = await untilRunning(node1!, "echo", 3);
      t.true(tasks.every(({ restarts }) => restarts === 0));
    },
  );
}

systemTest(
  "a transfer through a virtual IP survives both nodes' agents being killed, one after the other",
  async (t) => {
    const [node1, node2, node3] = lab().nodes;
    const server = ["--constraint", `node.name==${node3!.name}`, "--", "iperf3", "-s", "-p", "5201", "--forceflush"];
    await node1!.ctl("service", "create", "--name", "iperf", "--network", "web", ...server);
    await untilRunning(node1!, "iperf", 1);
    // It connects once, and ends by itself only when that connection breaks.
    const transfer = inContainer(node2!, ["iperf3", "-c", "iperf", "-p", "5201", "-t", "3600"]);
    const goesOn = async (node: LabNode): Promise<void> => {
      const before = await bytesCarried(node, "iperf");
      await waitFor(async () => (await bytesCarried(node, "iperf")) > before + MEGABYTES, {
        what: "the transfer to go on",
      });
    };
    for (const node of [node2!, node3!]) {
      await goesOn(node);
      await node.killAgent();
      await node.startAgent();
      await goesOn(node);
    }
    await transfer.end("SIGINT");
    t.regex(transfer.output, /the client has terminated/, "it had not ended before");
    await node1!.ctl("service", "rm", "iperf");
  },
);

async function bytesCarried(node: LabNode, service: string): Promise<number> {
  const flows = await node.ctlJson<FlowView[]>("flows", "--service", service);
  return flows.reduce((total, { bytes }) => total + bytes, 0);
}

interface ThreadPriority {
  name: string;
  nice: number;
  /** The slice in nanoseconds; undefined where the kernel does not say. */
  slice: number | undefined;
}

/** The priorities of the threads of a node's agent, by thread number. */
function threadsOf(node: LabNode): ThreadPriority[] {
  const tasks = `/proc/${node.agentPid}/task`;
  return readdirSync(tasks).map((tid) => {
    const stat = readFileSync(join(tasks, tid, "stat"), "utf8");
    const end = stat.lastIndexOf(")");
    const sched = join(tasks, tid, "sched");
    const slice = existsSync(sched) ? /^se\.slice\s*:\s*(\d+)/m.exec(readFileSync(sched, "utf8"))?.[1] : undefined;
    return {
      name: stat.slice(stat.indexOf("(") + 1, end),
      nice: Number(stat.slice(end + 2).split(" ")[NICE]),
      slice: slice === undefined ? undefined : Number(slice),
    };
  });
}

/** Starts the agent by `argv`, which stands in front of its own command. */
async function restartUnder(node: LabNode, ...argv: string[]): Promise<string> {
  const before = readFileSync(node.logPath, "utf8").length;
  await node.stopAgent();
  await node.startAgent(argv);
  return readFileSync(node.logPath, "utf8").slice(before);
}

systemTest("the data path's threads, and the session of their own, go before ordinary programs", async (t) => {
  const [, node2] = lab().nodes;
  const threads = threadsOf(node2!);
  const workers = threads.filter(({ name }) => name.startsWith("datapath-"));
  t.true(workers.length > 0);
  t.true(workers.every(({ nice }) => nice === -10));
  if (takesSlices) t.true(workers.every(({ slice }) => slice === SLICE));
  t.true(
    threads.every(({ name, nice }) => nice === (name.startsWith("datapath-") ? -10 : 0)),
    "and no other thread",
  );
  const log = await restartUnder(node2!);
  if (isOn("/proc/sys/kernel/sched_autogroup_enabled")) {
    t.regex(readFileSync(`/proc/${node2!.agentPid}/autogroup`, "utf8"), / nice -10$/m);
    t.regex(log, /nice -10, its session too.*goes before ordinary programs/);
  } else t.regex(log, /nice -10, not its session.*goes before ordinary programs/);
});

systemTest("an agent that may not go before others says so, and carries packets as they do", async (t) => {
  const [, node2] = lab().nodes;
  const log = await restartUnder(node2!, "setpriv", "--bounding-set=-sys_nice", "--inh-caps=-sys_nice");
  t.regex(log, /EACCES.*does not go before other programs: give the agent CAP_SYS_NICE/);
  t.true(threadsOf(node2!).every(({ nice }) => nice === 0));
  const unraised = threadsOf(node2!).filter(({ name }) => name.startsWith("datapath-"));
  if (takesSlices)
    t.true(
      unraised.every(({ slice }) => slice === SLICE),
      "short slices need no privilege",
    );
  t.true(await answers(node2!));
  // Its nice value counts, and is not made worse, where an operator has raised it by other means.
  await restartUnder(node2!, "nice", "-n", "-15");
  const workers = threadsOf(node2!).filter(({ name }) => name.startsWith("datapath-"));
  t.true(workers.every(({ nice }) => nice === -15));
  await restartUnder(node2!);
});

function isOn(path: string): boolean {
  return existsSync(path) && readFileSync(path, "utf8").trim() === "1";
}

systemTest(
  "what is not the agent's in its own tables is removed at its start, what is missing is put back",
  async (t) => {
    const [, node2] = lab().nodes;
    await node2!.stopAgent();
    await node2!.exec(["ip", "route", "add", "10.199.0.1/32", "dev", "lo", "table", "4790"]);
    await node2!.exec(["ip", "rule", "del", "pref", "11"]);
    await node2!.startAgent();
    await waitFor(() => answers(node2!), { what: "the service to answer" });
    t.false((await node2!.exec(["ip", "route", "show", "table", "4790"])).includes("10.199.0.1"));
    t.regex(await node2!.exec(["ip", "rule"]), /11:.*overlay0.*4790/);
  },
);

systemTest(
  "with the leader gone, old and new connections, names and published ports go on; writes say why not",
  async (t) => {
    const [node1, node2, node3] = lab().nodes;
    const tasks = await runningTasks(node2!, "echo");
    const own = tasks.find(({ node }) => node === node2!.name)!;
    const onNode3 = addressOf(tasks.find(({ node }) => node === node3!.name)!);
    const toNode3 = await talk(node2!, onNode3);
    const inTask = (...argv: string[]) => node2!.tryExec(["ip", "netns", "exec", namespaceOf(own), ...argv]);
    await node1!.killAgent();

    t.is((await inTask(...program("ask", "tcp", onNode3, 7, 3))).status, 0);
    t.regex((await inTask(...dig("+short", "echo"))).stdout, /^10\./);
    await waitFor(async () => (await inTask(...program("ask", "tcp", "echo", 7, 6, TRY_MS))).status === 0, {
      what: "the service to be balanced over the nodes that are left",
    });
    t.is((await lab().client.tryExec(program("ask", "tcp", node3!.address, 7000, 4))).status, 0);
    const write = await node2!.tryExec(["overlayctl", "network", "create", "late"]);
    t.is(write.status, 1);
    t.regex(write.stderr, /192\.0\.2\.11:2377/);
    const listed = async () => (await node2!.shell("overlayctl network ls")).stderr;
    t.regex(await listed(), /has no leader, and shows its copy of revision \d+: 192\.0\.2\.11:2377/);

    await node2!.stopAgent();
    await node2!.startAgent();
    t.regex(await listed(), /has no leader, and shows its copy of revision \d+ from its disk, which may lack/);
    await waitFor(async () => (await inTask(...program("ask", "tcp", "echo", 7, 6, TRY_MS))).status === 0, {
      what: "the service to answer from the snapshot",
    });
    t.is(await toNode3.end("SIGTERM"), 0, toNode3.output);

    await node1!.startAgent();
    await node1!.ctl("network", "create", "late");
    await waitFor(async () => (await node2!.ctl("network", "ls")).includes("late"), { what: "the leader to be back" });
    await waitFor(async () => (await listed()) === "", { what: "the listing to be the leader's again" });
    await untilRunning(node1!, "echo", 3);
  },
);

systemTest("a node whose VXLAN port is blocked shows so on both sides, with the reason, and returns", async (t) => {
  const [node1, node2] = lab().nodes;
  const peerOf = async (node: LabNode, other: LabNode) =>
    (await node.ctlJson<PeerView[]>("peers")).find(({ name }) => name === other.name)!;
  await waitFor(async () => (await peerOf(node1!, node2!)).state === "up", { what: "the peer to be up" });
  await node2!.exec(["nft", "add table ip labblock"]);
  await node2!.exec(["nft", "add chain ip labblock in { type filter hook prerouting priority -400; }"]);
  await node2!.exec(["nft", "add rule ip labblock in udp dport 4789 drop"]);
  for (const [node, other] of [
    [node2!, node1!],
    [node1!, node2!],
  ] as const) {
    const seen = await waitFor(
      async () => {
        const peer = await peerOf(node, other);
        return peer.state !== "up" && peer;
      },
      { what: `${node.name} to miss ${other.name}` },
    );
    t.truthy(seen.reason, node.name);
  }
  await node2!.exec(["nft", "delete table ip labblock"]);
  const up = await waitFor(
    async () => {
      const peer = await peerOf(node1!, node2!);
      return peer.state === "up" && peer.rttMs !== null && peer;
    },
    { what: "the peer to be up again" },
  );
  t.true(up.rttMs! > 0);
});

systemTest(
  "a manager with an empty disk ends nobody's tasks; a node leaves for its new cluster, and comes back",
  async (t) => {
    const [node1, node2, node3] = lab().nodes;
    const before = await untilRunning(node1!, "echo", 3);
    const own = before.find(({ node }) => node === node2!.name)!;
    const data = join(node1!.directory, "data");
    await node1!.stopAgent();
    renameSync(data, `${data}.aside`);
    await node1!.startAgent();
    t.regex((await node1!.shell("overlayctl node ls")).stderr, /in no cluster: run 'overlayctl init'/);
    await node1!.initCluster();

    for (const node of [node2!, node3!]) {
      const what = `${node.name} to say why it has no leader`;
      const problem = async () => (await node.shell("overlayctl node ls")).stderr;
      await waitFor(async () => /not signed by this cluster's CA/.test(await problem()), { what });
      t.is((await runningTasks(node, "echo")).filter((task) => task.node === node.name).length, 1);
    }
    const inTask = (...argv: string[]) => node2!.tryExec(["ip", "netns", "exec", namespaceOf(own), ...argv]);
    t.is((await inTask(...program("ask", "tcp", addressOf(own), 7, 3))).status, 0);
    const write = await node2!.shell("overlayctl network create lost");
    t.regex(write.stderr, /no leader answers .*this cluster's CA/);

    const asked = await node2!.shell("overlayctl leave");
    t.is(asked.status, 1);
    t.regex(asked.stderr, /1 task and .*'--force' does it/);
    t.is((await node2!.shell("overlayctl leave --force")).status, 0);
    t.notRegex((await node2!.shell("ls /run/netns")).stdout, new RegExp(namespaceOf(own)));
    await node2!.joinCluster(node1!.address, await lab().token("worker"));
    const names = async () => (await node1!.api.nodes()).map(({ name }) => name).toSorted();
    t.deepEqual(await names(), [node1!.name, node2!.name]);

    await node1!.stopAgent();
    await unmountBelow(data);
    rmSync(data, { recursive: true });
    renameSync(`${data}.aside`, data);
    await node1!.startAgent();
    t.is((await node2!.shell("overlayctl leave --force")).status, 0);
    const join2 = `overlayctl join ${node1!.address} --token ${await lab().token("worker")}`;
    t.regex(
      (await node2!.shell(join2)).stderr,
      new RegExp(`overlayctl node rm ${node2!.name}`),
      "it has another key now",
    );
    await node1!.ctl("node", "rm", "--force", node2!.name);
    t.is((await node2!.shell(join2)).status, 0);
    await untilRunning(node1!, "echo", 3);
    t.deepEqual(await names(), [node1!.name, node2!.name, node3!.name]);
  },
);

systemTest("`overlayd down` removes links, routes, rules, tables and tasks", async (t) => {
  const [, , node3] = lab().nodes;
  await node3!.stopAgent();
  const flows = flowFilesOf(join(lab().directory, "node3", "data"));
  t.is(flows.filter((path) => existsSync(path)).length, 1);
  for (const path of flows.slice(-2)) writeFileSync(path, "", { mode: 0o600 }); // as versions before left them
  await node3!.exec(["overlayd", "down", "--config", node3!.configPath]);
  t.deepEqual(
    flows.filter((path) => existsSync(path)),
    [],
  );
  const shown = async (...argv: string[]) => (await node3!.tryExec(argv)).stdout;
  t.notRegex(await shown("ip", "-o", "link"), /overlay0|: ov/);
  t.notRegex(await shown("ip", "rule"), /4790/);
  t.notRegex(await shown("ip", "route", "show", "table", "all"), /10\.(19[2-9]|2[0-4]\d|25[0-5])\./);
  t.notRegex(await shown("nft", "list", "tables"), /overlayd/);
  t.notRegex(await shown("ls", "/run/netns"), /ovl-agtn3-/);
});
