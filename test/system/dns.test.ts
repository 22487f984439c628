// Containers of two nodes ask for names with dig: every kind of record, which names each network sees, and that an answer
// follows a task.
import type { StatsView, TaskView } from "../../src/api/schema.ts";
import { Background, DEADLINE_MS, dig as digArgv, type Finished, waitFor } from "./command.ts";
import { CLIENT_ADDRESS, LabHost, type LabNode } from "./lab.ts";
import { addressOf, namespaceOf, networkOf, processOf, runningTasks, untilRunning, vipOf } from "./listings.ts";
import { program } from "./program.ts";
import { systemTest, useLab } from "./system-test.ts";

const DOMAIN = "cluster.test";
const MANY = 80;
const MANY_MS = 5 * DEADLINE_MS;
/** Long, so that a lost node leaves the answers because other nodes do not hear it, not because the leader gives it up. */
const SESSION_TIMEOUT_MS = 3_600_000;

const lab = useLab(
  { prefix: "dns", nodes: 2, cluster: { domain: DOMAIN, livenessMs: SESSION_TIMEOUT_MS } },
  async ({ nodes: [node1] }) => {
    const sleep = ["--", "sleep", "infinity"];
    const create = (...argv: string[]) => node1!.ctl("service", "create", ...argv);
    for (const name of ["web", "back"]) await node1!.ctl("network", "create", name);
    await create(
      ...["--name", "search", "--replicas", "2", "--network", "web", "-p", "9200:7", "--label", "tier=front"],
      ...["--", ...program("echo-server", 7)],
    );
    await create(
      ...["--name", "store", "--network", "name=web,alias=db", "--network", "back", "--endpoint-mode", "dnsrr"],
      ...["--dns-ttl", "2m", "--constraint", "node.name==dnsn2", ...sleep],
    );
    await create("--name", "vault", "--network", "back", "--constraint", "node.name==dnsn1", ...sleep);
  },
);

/** A datagram from source port 0, which no socket has but a raw one; without a checksum. */
const FROM_PORT_0 = `use Socket; my ($to, $port, $hex) = @ARGV; my $body = pack("H*", $hex);
socket(my $raw, AF_INET, SOCK_RAW, 17) or die $!;
send($raw, pack("nnnn", 0, $port, 8 + length $body, 0) . $body, 0, sockaddr_in(0, inet_aton($to))) or die $!;`;

interface Known {
  vip: string;
  /** Addresses, by slot. */
  search: string[];
  store: string;
  /** Of the network web. */
  gateway: string;
  /** The tasks of a service, and where their resolv.conf points to. */
  containers: Map<string, { host: LabHost; node: string; gateway: string }[]>;
}
let found: Promise<Known> | undefined;

/** What does not change while the file's tests run: tasks that are started again keep their addresses. */
function known(): Promise<Known> {
  found ??= findKnown();
  return found;
}

async function findKnown(): Promise<Known> {
  const [node1] = lab().nodes;
  const gateways = new Map<string, string>();
  for (const name of ["web", "back"]) gateways.set(name, (await networkOf(node1!, name)).gateway);
  const containers: Known["containers"] = new Map();
  for (const service of ["search", "store", "vault"]) {
    const tasks = (await runningTasks(node1!, service)).sort((a, b) => a.slot - b.slot);
    const hosts = tasks.map((task) => ({
      host: new LabHost(namespaceOf(task), addressOf(task)),
      node: task.node!,
      gateway: gateways.get(task.addresses[0]!.network)!,
    }));
    containers.set(service, hosts);
  }
  const addresses = (service: string) => containers.get(service)!.map(({ host }) => host.address);
  return {
    vip: (await vipOf(node1!, "search"))!,
    search: addresses("search"),
    store: addresses("store")[0]!,
    gateway: gateways.get("web")!,
    containers,
  };
}

async function containerOf(service: string, nodeName?: string): Promise<{ host: LabHost; gateway: string }> {
  const containers = (await known()).containers.get(service)!;
  return containers.find(({ node }) => nodeName === undefined || node === nodeName)!;
}

async function dig(service: string, ...words: string[]): Promise<string> {
  const { host, gateway } = await containerOf(service);
  return (await host.exec(digArgv(`@${gateway}`, ...words))).trim();
}

function lines(output: string): string[] {
  return output.trim().split("\n").sort();
}

const short: [title: string, words: string[], expected: (of: Known) => string[]][] = [
  ["A of a service", ["search"], ({ vip }) => [vip]],
  ["A under network and domain", [`search.web.${DOMAIN}`], ({ vip }) => [vip]],
  ["A of its tasks", ["tasks.search"], ({ search }) => search],
  ["A of a slot", ["search.2"], ({ search }) => [search[1]!]],
  ["A of a service without a VIP", ["store"], ({ store }) => [store]],
  ["A of an alias", ["db"], ({ store }) => [store]],
  ["A over TCP", ["+tcp", "search"], ({ vip }) => [vip]],
  ["SRV", ["SRV", "_7._tcp.search"], () => [`0 0 7 search.web.${DOMAIN}.`]],
  ["SRV of tasks", ["SRV", "_7._tcp.tasks.search"], () => [1, 2].map((slot) => `0 0 7 search.${slot}.web.${DOMAIN}.`)],
  ["TXT", ["TXT", "search"], () => ['"tier=front"']],
  ["PTR of the VIP", ["-x", "VIP"], () => [`search.web.${DOMAIN}.`]],
  ["SOA", ["SOA", DOMAIN], () => [`ns.${DOMAIN}. hostmaster.${DOMAIN}.`]],
  ["NS", ["NS", DOMAIN], () => [`ns.${DOMAIN}.`]],
  ["A of the name server", [`ns.${DOMAIN}`], ({ gateway }) => [gateway]],
];
for (const [title, words, expected] of short) {
  systemTest(`dig in a container is answered: ${title}`, async (t) => {
    const of = await known();
    const output = await dig("search", "+short", ...words.map((word) => (word === "VIP" ? of.vip : word)));
    const found = title === "SOA" ? [output.split(" ").slice(0, 2).join(" ")] : lines(output);
    t.deepEqual(found, expected(of).toSorted());
  });
}

const whole: [title: string, asker: string, words: string[], expected: RegExp][] = [
  ["AAAA is empty, not missing", "search", ["AAAA", "search"], /status: NOERROR.*\n.*ANSWER: 0, AUTHORITY: 1/],
  ["the letter case asked comes back", "search", ["SeaRCH"], /\nSeaRCH\.\s+5\s+IN\s+A\s/],
  ["the TTL is the service's", "search", ["store"], /\nstore\.\s+120\s+IN\s+A\s/],
  ["an unknown name is none", "search", ["nothing"], /status: NXDOMAIN/],
  ["another network's service is none", "search", ["vault"], /status: NXDOMAIN/],
  ["also not under its network", "search", [`vault.back.${DOMAIN}`], /status: NXDOMAIN/],
  ["nor before its network alone", "search", ["vault.back"], /status: NXDOMAIN/],
  ["what is not there is asked of nobody", "search", ["tasks.nothing.web"], /status: NXDOMAIN/],
  ["a network's name has names below it", "search", ["web"], /status: NOERROR.*\n.*ANSWER: 0, AUTHORITY: 1/],
  ["an alias is of one network", "vault", ["db"], /status: NXDOMAIN/],
  ["its service is on both", "vault", ["store"], /status: NOERROR.*\n.*ANSWER: 1/],
];
for (const [title, asker, words, expected] of whole) {
  systemTest(`${title}: ${asker} asks ${words.join(" ")}`, async (t) => {
    t.regex(await dig(asker, ...words), expected);
  });
}

systemTest("a container's own resolv.conf leads there", async (t) => {
  const { host } = await containerOf("search");
  const { vip } = await known();
  const { stdout } = await lab().nodes[0]!.tryExec(["ip", "netns", "exec", host.netns, ...digArgv("+short", "search")]);
  t.is(stdout.trim(), vip);
});

systemTest("a node sees the names of all networks", async (t) => {
  const [node1] = lab().nodes;
  const { gateway } = await known();
  for (const name of ["vault", "search", "store"]) {
    t.regex(await node1!.exec(digArgv(`@${gateway}`, name)), /status: NOERROR.*\n.*ANSWER: 1/);
  }
});

systemTest("a host of the LAN that routes a gateway to a node has no answer of its DNS", async (t) => {
  const { client, nodes } = lab();
  const { gateway } = await known();
  await client.exec(["ip", "route", "replace", `${gateway}/32`, "via", nodes[0]!.address]);
  for (const name of ["search", "example.org"]) {
    const { status, stdout } = await client.tryExec(digArgv("+time=1", `@${gateway}`, name));
    t.not(status, 0, `${CLIENT_ADDRESS}: ${stdout}`);
  }
});

systemTest(
  "a container that forges its address is not answered, neither as another container nor as itself",
  async (t) => {
    const { host, gateway } = await containerOf("search", "dnsn1");
    const { host: victim } = await containerOf("vault");
    const ask = (from: string, ...options: string[]): Promise<Finished> =>
      host.tryExec(digArgv(...options, "-b", from, `@${gateway}`, "vault"));
    await host.exec(["ip", "address", "add", `${victim.address}/32`, "dev", "eth0"]);
    try {
      t.regex((await ask(host.address)).stdout, /status: NXDOMAIN/);
      const { status, stdout } = await ask(victim.address, "+time=1");
      t.not(status, 0, stdout);
    } finally {
      await host.exec(["ip", "address", "del", `${victim.address}/32`, "dev", "eth0"]);
    }
  },
);

systemTest("many questions on one TCP connection are all answered", async (t) => {
  const { host, gateway } = await containerOf("search");
  t.is(await host.exec(program("ask-at-once", gateway, "search", 300)), "300\n");
});

interface Seen {
  at: number;
  addresses: string[];
}

/** Watches `tasks.search` on a node's gateway. */
function watch(nodeIndex: number, gateway: string): Background {
  const node = lab().nodes[nodeIndex]!;
  return new Background(node.inside(program("watch-name", gateway, "tasks.search")));
}

function seenBy(watcher: Background): Seen[] {
  const whole = watcher.output.slice(0, watcher.output.lastIndexOf("\n") + 1);
  return whole
    .split("\n")
    .filter(Boolean)
    .map((line) => JSON.parse(line) as Seen);
}

systemTest("questions of containers leave no entry in the node's table of connections", async (t) => {
  const { host, gateway } = await containerOf("search", "dnsn1");
  await host.exec(digArgv(`@${gateway}`, "search"));
  const entries = await lab().nodes[0]!.exec(["conntrack", "-L", "-p", "udp", "--dport", "53"]);
  t.false(entries.includes(host.address), entries);
});

systemTest("a question that is asked again is answered in the packet path, until the names change", async (t) => {
  const [node1] = lab().nodes;
  const { host, gateway } = await containerOf("search", "dnsn1");
  const answered = async () => JSON.parse(await node1!.ctl("stats", "--json")).datapath.namesAnswered as number;
  const ask = async () => (await host.exec(digArgv("+short", "+nocookie", `@${gateway}`, "passing"))).trim();
  const create = ["service", "create", "--name", "passing", "--network", "web", "--endpoint-mode", "dnsrr"];
  await node1!.ctl(...create, "--", "sleep", "infinity");
  const [task] = await untilRunning(node1!, "passing", 1);
  await waitFor(async () => (await ask()) === addressOf(task!), { what: "an answer" });
  await waitFor(async () => (await ask()) !== "" && (await answered()) > 0, { what: "an answer in the packet path" });
  const before = await answered();
  const queries = await queriesOf(node1!);
  await waitFor(
    async () => {
      t.is(await ask(), addressOf(task!));
      return (await answered()) > before;
    },
    { what: "another one" },
  );
  t.true((await queriesOf(node1!)) > queries, "it is counted among the queries");
  await node1!.ctl("service", "scale", "passing=0");
  await waitFor(async () => (await ask()) === "", { what: "the name without a task" });
  await node1!.ctl("service", "rm", "passing");
});

systemTest("an answer follows a task that dies and comes back, on its node and on the other", async (t) => {
  const [node1] = lab().nodes;
  const { gateway } = await known();
  const victim = (await runningTasks(node1!, "search")).find(({ node }) => node === "dnsn1") as TaskView;
  const address = addressOf(victim);
  const watchers = [watch(0, gateway), watch(1, gateway)];
  try {
    for (const watcher of watchers) await watcher.says(address);
    const killedAt = Date.now();
    process.kill(await processOf(victim), "SIGKILL");
    for (const [i, watcher] of watchers.entries()) {
      const gone = await waitFor(
        () => seenBy(watcher).find(({ at, addresses }) => at >= killedAt && !addresses.includes(address)),
        { what: `the task to be gone from dnsn${i + 1}'s answers` },
      );
      await waitFor(() => seenBy(watcher).some(({ at, addresses }) => at > gone.at && addresses.includes(address)), {
        what: `the task to be back in dnsn${i + 1}'s answers`,
      });
    }
  } finally {
    await Promise.all(watchers.map((watcher) => watcher.end("SIGTERM")));
  }
  const tasks = await untilRunning(node1!, "search", 2);
  t.true(tasks.some((task) => addressOf(task) === address));
});

systemTest(
  "a node that is lost takes its tasks out of the others' answers before the leader gives it up",
  async (t) => {
    const [node1, node2] = lab().nodes;
    const { gateway } = await known();
    const victim = (await runningTasks(node1!, "search")).find(({ node }) => node === "dnsn2") as TaskView;
    const address = addressOf(victim);
    const watcher = watch(0, gateway);
    try {
      await watcher.says(address);
      const killedAt = Date.now();
      await node2!.killAgent();
      const gone = await waitFor(
        () => seenBy(watcher).find(({ at, addresses }) => at >= killedAt && !addresses.includes(address)),
        { what: "the lost node's task to be gone from dnsn1's answers" },
      );
      t.true(gone.addresses.length > 0);
      await node2!.startAgent();
      await waitFor(() => seenBy(watcher).some(({ at, addresses }) => at > gone.at && addresses.includes(address)), {
        what: "the task to be back when its node is",
      });
    } finally {
      if (!node2!.agentRuns()) await node2!.startAgent();
      await watcher.end("SIGTERM");
    }
    await untilRunning(node1!, "search", 2);
  },
);

systemTest("an answer too big for a datagram says so, and comes whole over TCP", async (t) => {
  const [node1] = lab().nodes;
  const argv = ["--detach", "--name", "many", "--replicas", `${MANY}`, "--network", "web", "--", "sleep", "infinity"];
  await node1!.ctl("service", "create", ...argv);
  const tasks = await waitFor(
    async () => {
      const running = await runningTasks(node1!, "many");
      return running.length === MANY && running;
    },
    { what: `${MANY} tasks`, deadlineMs: MANY_MS },
  );
  // The last of them may run on the other node: its state arrives a moment later.
  await waitFor(async () => lines(await dig("search", "+short", "tasks.many")).length === MANY, {
    what: "their names",
  });
  t.regex(await dig("search", "+ignore", "+notcp", "tasks.many"), /flags: qr aa tc rd ra;/);
  t.deepEqual(lines(await dig("search", "+short", "tasks.many")), tasks.map(addressOf).sort());
  await node1!.ctl("service", "rm", "many");
});

systemTest("a question from port 0, where no answer can be sent, is left alone and stops nobody", async (t) => {
  const { host, gateway } = await containerOf("search", "dnsn1");
  const question = "abcd01000001000000000000067365617263680000010001";
  const before = await queriesOf(lab().nodes[0]!);
  for (let i = 0; i < 3; i++) await host.exec(["perl", "-e", FROM_PORT_0, gateway, "53", question]);
  const { stdout } = await host.tryExec(digArgv("+short", "search", `@${gateway}`));
  t.is(stdout.trim(), (await known()).vip);
  t.is(await queriesOf(lab().nodes[0]!), before + 1);
});

async function queriesOf(node: LabNode): Promise<number> {
  return (await node.ctlJson<StatsView>("stats")).dns.queries!;
}
