// The kernel's tracking of connections to published ports, on the real kernel: segments that it cannot place, its time-outs,
// entries that lead where the port no longer leads, and a table that is full.
import { type ChildProcess, spawn } from "node:child_process";
import { createInterface } from "node:readline";
import type { ExecutionContext } from "ava";
import { systemEnv } from "../../src/lib/command.ts";
import { TCP_TIMEOUT_SECONDS, UDP_TIMEOUT_SECONDS } from "../../src/lib/flow-timeouts.ts";
import { run, waitFor } from "./command.ts";
import type { Kernel } from "./kernel.ts";
import { DESIRED, OTHER_VIP, setUpMesh, VIP } from "./mesh-kernel.ts";
import { program } from "./program.ts";
import { systemTest } from "./system-test.ts";

/** Repeats what it receives behind `echo`, also to a client that has closed its side. */
const SERVER = `require("net").createServer({ allowHalfOpen: true }, (s) => {
  s.on("error", () => {});
  s.on("data", (line) => s.write("echo " + line));
}).listen(9200, "0.0.0.0")`;

const setUp = (t: ExecutionContext) => setUpMesh(t, SERVER);

type Drops = Record<string, number>;

/** Holds one connection: sends lines and gathers what is printed. */
class Talk {
  readonly lines: string[] = [];
  readonly #child: ChildProcess;

  constructor(t: ExecutionContext, argv: readonly string[]) {
    this.#child = spawn(argv[0]!, argv.slice(1), { stdio: ["pipe", "pipe", "inherit"], env: systemEnv() });
    createInterface({ input: this.#child.stdout! }).on("line", (line) => this.lines.push(line));
    t.teardown(() => this.#child.kill("SIGKILL"));
  }

  tell(line: string): void {
    this.#child.stdin!.write(`${line}\n`);
  }

  async heard(line: string): Promise<void> {
    await waitFor(() => this.lines.some((other) => other === line || other.startsWith("error")), { what: `'${line}'` });
    if (!this.lines.includes(line)) throw new Error(`'${line}' is not among '${this.lines.join("', '")}'`);
  }
}

function talk(t: ExecutionContext, kernel: Kernel, from: string, address: string, ...more: number[]): Talk {
  return new Talk(t, kernel.in(from, ...program("half-closed", address, 9200, ...more)));
}

/**
 * In `host`, the next two segments with data to or from the port have other sequence numbers, half of all numbers apart: to
 * conntrack one of them is far behind its window, and one far ahead.
 */
async function misplaceTwoSegments(
  kernel: Kernel,
  host: string,
  direction: "sport" | "dport",
  hook = "postrouting priority 300",
): Promise<void> {
  await kernel.sh(host, "nft add table ip wrong");
  await kernel.exec(host, "nft", `add chain ip wrong out { type filter hook ${hook}; }`);
  for (const sequence of [7, 7 + 2 ** 31]) {
    const once = `tcp ${direction} 9200 tcp flags & psh == psh limit rate 1/day burst 1 packets counter`;
    await kernel.exec(host, "nft", `add rule ip wrong out ${once} tcp sequence set ${sequence} accept`);
  }
}

/** How many packets have met the rules in table `wrong`. */
async function misplaced(kernel: Kernel, host: string): Promise<number> {
  const counts = (await kernel.sh(host, "nft list table ip wrong")).matchAll(/packets (\d+) bytes/g);
  return [...counts].reduce((sum, [, packets]) => sum + Number(packets), 0);
}

/** Counts what arrives at `host` that no peer of a published port may see. */
async function countStrays(kernel: Kernel, host: string): Promise<() => Promise<Record<string, number>>> {
  await kernel.sh(host, "nft add table ip seen");
  await kernel.exec(host, "nft", "add counter ip seen inner");
  await kernel.exec(host, "nft", "add counter ip seen resets");
  await kernel.exec(host, "nft", "add chain ip seen in { type filter hook prerouting priority raw; }");
  await kernel.exec(host, "nft", "add rule ip seen in ip saddr 10.192.0.0/10 counter name inner");
  await kernel.exec(host, "nft", "add rule ip seen in tcp flags & rst == rst counter name resets");
  return async () => {
    const { nftables } = JSON.parse(await kernel.sh(host, "nft -j list counters table ip seen")) as {
      nftables: { counter?: { name: string; packets: number } }[];
    };
    return Object.fromEntries(nftables.flatMap(({ counter }) => (counter ? [[counter.name, counter.packets]] : [])));
  };
}

for (const [who, from, address] of [
  ["a client outside", "client", "192.0.2.11"],
  ["the node itself, by its address", "node", "192.0.2.11"],
  ["the node itself, by localhost", "node", "127.0.0.1"],
] as const) {
  systemTest(`a segment outside the window reaches the task, and the connection goes on: ${who}`, async (t) => {
    const { kernel, driver } = await setUp(t);
    await driver.call("mesh.apply", DESIRED);
    const strays = await countStrays(kernel, from);
    const taskStrays = await countStrays(kernel, "task");
    const client = talk(t, kernel, from, address);
    await client.heard("connected");
    // The node's own segments get another number before its conntrack sees them.
    await misplaceTwoSegments(kernel, from, "dport", from === "node" ? "output priority raw" : undefined);
    client.tell("say one");
    await client.heard("echo one"); // TCP has sent it again
    client.tell("say two");
    await client.heard("echo two");
    t.is(await misplaced(kernel, from), 2, "the test's own rules have met two segments");
    t.like(await strays(), { resets: 0 }, "nothing was answered by a reset");
    t.is((await taskStrays()).resets, 0, "nor did the task see one");
  });
}

for (const [who, from, address] of [
  ["a client outside", "client", "192.0.2.11"],
  ["the node itself", "node", "127.0.0.1"],
] as const) {
  systemTest(`a task's segment outside the window does not reach ${who} with an inner address`, async (t) => {
    const { kernel, driver } = await setUp(t);
    await driver.call("mesh.apply", DESIRED);
    const strays = await countStrays(kernel, "client");
    const taskStrays = await countStrays(kernel, "task");
    const client = talk(t, kernel, from, address);
    await client.heard("connected");
    await misplaceTwoSegments(kernel, "task", "sport");
    client.tell("say one");
    await client.heard("echo one"); // sent again by the task
    t.is(await misplaced(kernel, "task"), 2, "the test's own rules have met two segments");
    t.deepEqual(await strays(), { inner: 0, resets: 0 });
    t.is((await taskStrays()).resets, 0, "the node's own stack has not answered it");
    t.true(((await driver.call("mesh.drops")) as Drops)["untranslated-source"]! >= 1, "it is counted");
  });
}

systemTest("an ICMP error that belongs to no connection does not leave with an inner address", async (t) => {
  const { kernel, driver } = await setUp(t);
  await driver.call("mesh.apply", DESIRED);
  const strays = await countStrays(kernel, "client");
  await kernel.sh("task", "nft add table ip wrong");
  await kernel.exec("task", "nft", "add chain ip wrong out { type filter hook output priority 0; }");
  await kernel.exec("task", "nft", "add rule ip wrong out icmp type echo-request counter icmp type set time-exceeded");
  const before = ((await driver.call("mesh.drops")) as Drops)["untranslated-source"]!;
  await run(kernel.in("task", "bash", "-c", "ping -c 3 -i 0.2 -W 1 192.0.2.100 || true"));
  t.is(await misplaced(kernel, "task"), 3);
  t.is((await strays()).inner, 0);
  t.is(((await driver.call("mesh.drops")) as Drops)["untranslated-source"]! - before, 3, "each is counted");
});

/** Entries to the published port: state and the seconds that are left. */
async function entries(kernel: Kernel, protocol: "tcp" | "udp"): Promise<{ state: string; seconds: number }[]> {
  const listing = await kernel.sh("node", `conntrack -L -p ${protocol}`).catch(() => "");
  const lines = listing.matchAll(/^\w+ +\d+ (\d+) ([A-Z_]+)?.*dport=9200 /gm);
  return [...lines].map(([, seconds, state]) => ({ state: state ?? "UDP", seconds: Number(seconds) }));
}

systemTest(
  "whatever the machine's own time-outs are, those of the overlay are as long as the flow table's",
  async (t) => {
    const { kernel, driver } = await setUp(t);
    const settings = ["established", "fin_wait", "close_wait", "last_ack", "time_wait", "unacknowledged"];
    for (const name of settings)
      await kernel.sh("node", `sysctl -qw net.netfilter.nf_conntrack_tcp_timeout_${name}=20`);
    await kernel.sh(
      "node",
      "sysctl -qw net.netfilter.nf_conntrack_udp_timeout=5 net.netfilter.nf_conntrack_udp_timeout_stream=5",
    );
    const ports = [...DESIRED.ports, { ...DESIRED.ports[0]!, protocol: "udp" }];
    await driver.call("mesh.apply", { ...DESIRED, ports });
    const client = talk(t, kernel, "client", "192.0.2.11");
    await client.heard("connected");
    client.tell("say one");
    await client.heard("echo one");
    const slack = 120; // seconds that the test itself may take
    const inState = async (state: string, atLeast: number): Promise<void> => {
      const found = await waitFor(async () => (await entries(kernel, "tcp")).find((entry) => entry.state === state), {
        what: `an entry in ${state}`,
      });
      t.true(found.seconds >= atLeast - slack, `${state}: ${found.seconds} s of ${atLeast}`);
    };
    await inState("ESTABLISHED", TCP_TIMEOUT_SECONDS.Established);
    // Replaced with a port: what has begun keeps its time.
    await driver.call("mesh.apply", { ...DESIRED, ports: [...ports, { ...DESIRED.ports[0]!, port: 9300 }] });
    client.tell("say two");
    await client.heard("echo two");
    await inState("ESTABLISHED", TCP_TIMEOUT_SECONDS.Established);
    // As an agent that starts again: it knows of no table, and puts all of them.
    await kernel.driver("node").call("mesh.apply", { ...DESIRED, ports });
    client.tell("say three");
    await client.heard("echo three");
    await inState("ESTABLISHED", TCP_TIMEOUT_SECONDS.Established);
    client.tell("end");
    await inState("CLOSE_WAIT", TCP_TIMEOUT_SECONDS.CloseWait);
    const udp = `const s = require("dgram").createSocket("udp4"); s.send("x", 9200, "192.0.2.11", () => s.close())`;
    await kernel.exec("client", process.execPath, "-e", udp);
    const [entry] = await entries(kernel, "udp");
    t.true(entry !== undefined && entry.seconds > UDP_TIMEOUT_SECONDS.Unreplied, `${entry?.seconds} s`);
  },
);

systemTest("a client that uses its source port again is led where the port leads now", async (t) => {
  const { kernel, driver } = await setUp(t);
  await driver.call("mesh.apply", DESIRED);
  const first = talk(t, kernel, "client", "192.0.2.11", 40_000);
  await first.heard("connected");
  first.tell("say vip");
  await first.heard(`echo vip`);
  first.tell("abort");
  await waitFor(async () => (await entries(kernel, "tcp")).some(({ state }) => state === "CLOSE"), {
    what: "the reset",
  });
  await driver.call("mesh.apply", { ...DESIRED, ports: [] });
  await kernel.sh("task", `ip addr del ${VIP}/10 dev eth0`); // the service is gone, and so is its VIP
  await kernel.sh("task", `ip addr add ${OTHER_VIP}/10 dev eth0`);
  await kernel.sh("task", "ip route replace default via 10.192.0.2");
  await kernel.sh("node", "ip neigh flush dev overlay0");
  await driver.call("mesh.apply", { ...DESIRED, ports: [{ ...DESIRED.ports[0]!, vip: OTHER_VIP }] });
  t.deepEqual(await entries(kernel, "tcp"), [], "no entry leads to the VIP that is gone");
  const second = talk(t, kernel, "client", "192.0.2.11", 40_000);
  await second.heard("connected");
});

systemTest("a table of connections that is full is a drop with a name of its own", async (t) => {
  const { kernel, driver } = await setUp(t);
  await driver.call("mesh.apply", DESIRED);
  t.like(await driver.call("mesh.drops"), { "conntrack-full": 0 });
  const most = Number(await kernel.sh("node", "sysctl -n net.netfilter.nf_conntrack_max"));
  const lines = Array.from({ length: most + 1 }, (_, i) => {
    const client = `198.18.${(i >> 15) & 0xff}.${(i >> 7) & 0xff}`;
    return `-I -p tcp -t 4000 -s ${client} -d 192.0.2.11 --sport ${1024 + (i & 0x7f)} --dport 80 --state ESTABLISHED -u ASSURED,SEEN_REPLY`;
  });
  await run(kernel.in("node", "bash", "-c", "cat | conntrack -R /dev/stdin >/dev/null 2>&1 || true"), {
    input: `${lines.join("\n")}\n`,
  });
  t.true(Number(await kernel.sh("node", "conntrack -C")) >= most, "the table is full");
  const connect = `require("net").connect(9200, "192.0.2.11").on("error", () => {}); setTimeout(() => process.exit(), 3000)`;
  const isCounted = async (): Promise<boolean> => {
    await kernel.exec("client", process.execPath, "-e", connect);
    return ((await driver.call("mesh.drops")) as Drops)["conntrack-full"]! > 0;
  };
  t.true(await waitFor(isCounted, { what: "a packet to be dropped" }));
});
