// mesh/ on the real kernel: a client outside, a node, and a service behind the node's TUN (here one end of a veth).
import { spawn } from "node:child_process";
import type { ExecutionContext } from "ava";
import { cidr } from "../../src/lib/ip.ts";
import { STORE_PEER_PORT } from "../../src/lib/standard-ports.ts";
import { DEADLINE_MS, TRY_MS, tryRun, waitFor } from "./command.ts";
import type { Kernel } from "./kernel.ts";
import { DESIRED, setUpMesh, VIP } from "./mesh-kernel.ts";
import { systemTest } from "./system-test.ts";

/** How long a test looks for a packet that must be dropped. */
const REFUSED_MS = 2000;
/** Answers each connection with the client's address. */
const SERVER = `require("net").createServer((s) => s.end(s.remoteAddress)).listen(9200, "0.0.0.0")`;

/** Also at what is there, though the same is wanted as before. */
const LOOK = { look: true };

const setUp = (t: ExecutionContext) => setUpMesh(t, SERVER);

/** The address that the task sees; "" when there is no answer. */
async function ask(kernel: Kernel, from: string, address: string, tryMs = TRY_MS): Promise<string> {
  const script = `const s = require("net").connect(9200, "${address}"); s.setTimeout(${tryMs}, () => s.destroy());
    s.on("error", () => {}); s.pipe(process.stdout)`;
  return (await tryRun(kernel.in(from, process.execPath, "-e", script))).stdout;
}

systemTest("a published port is answered on the node's address and on its localhost", async (t) => {
  const { kernel, driver } = await setUp(t);
  t.is(await ask(kernel, "client", "192.0.2.11"), "");
  await driver.call("mesh.apply", DESIRED);
  t.is(await ask(kernel, "client", "192.0.2.11"), "192.0.2.100", "the client's own address is seen");
  t.is(await ask(kernel, "node", "127.0.0.1"), "10.192.0.2");
  t.is(await ask(kernel, "node", "192.0.2.11"), "192.0.2.11");
  await driver.call("mesh.remove");
  t.is(await ask(kernel, "client", "192.0.2.11"), "");
});

systemTest("an overlay source from the underlay is dropped", async (t) => {
  const { kernel, driver } = await setUp(t);
  await kernel.sh("client", "ip addr add 10.200.0.9/32 dev lo");
  await kernel.sh("node", "ip route add 10.200.0.9/32 via 192.0.2.100");
  const counter = "udp dport 9999 counter";
  await kernel.sh("task", "nft add table ip seen");
  await kernel.exec("task", "nft", "add chain ip seen in { type filter hook prerouting priority raw; }");
  await kernel.exec("task", "nft", `add rule ip seen in ${counter}`);
  const seen = async () => Number(/packets (\d+)/.exec(await kernel.sh("task", "nft list table ip seen"))?.[1]);
  const script = `const s = require("dgram").createSocket("udp4"); s.bind(0, "10.200.0.9", () => s.send("x", 9999, "${VIP}", () => s.close()))`;
  await kernel.exec("client", process.execPath, "-e", script);
  t.is(await seen(), 1, "without the table it passes");
  await driver.call("mesh.apply", DESIRED);
  await kernel.exec("client", process.execPath, "-e", script);
  t.is(await seen(), 1);
});

systemTest("a host of the LAN that routes addresses of the overlay to the node reaches none of them", async (t) => {
  const { kernel, driver } = await setUp(t);
  t.is(await ask(kernel, "client", VIP), "192.0.2.100", "without the table it passes");
  await driver.call("mesh.apply", DESIRED);
  t.is(await ask(kernel, "client", VIP, REFUSED_MS), "");
  t.is(await ask(kernel, "client", "192.0.2.11"), "192.0.2.100");
});

systemTest(
  "a port on one address is not reached through another link, whatever a host of the LAN routes there",
  async (t) => {
    const { kernel, driver } = await setUp(t);
    const [inner, virtual] = ["198.18.0.1", "198.18.7.7"];
    for (const [name, command] of [
      ["node", "ip link add inner type veth peer name outer"],
      ["node", `ip addr add ${inner}/24 dev inner`],
      ["node", `ip addr add ${virtual}/32 dev lo`],
      ["node", "ip link set inner up"],
      ["node", "ip link set outer up"],
      ["node", "sysctl -qw net.ipv4.conf.all.route_localnet=1"], // as a Kubernetes node may have it
      ["client", `ip route add ${inner} via 192.0.2.11`],
      ["client", `ip route add ${virtual} via 192.0.2.11`],
      ["client", "sysctl -qw net.ipv4.conf.all.route_localnet=1"],
      ["client", "ip link set lo up"],
      ["client", "ip route del local 127.0.0.0/8 dev lo table local"],
      ["client", "ip route del local 127.0.0.1 dev lo table local"],
      ["client", "ip route add 127.0.0.1 via 192.0.2.11 src 192.0.2.100"],
    ] as const)
      await kernel.sh(name, command);
    const everywhere = { protocol: "tcp", port: 9200, vip: VIP, address: null, onEveryLink: true };
    const published = (...ports: object[]) => driver.call("mesh.apply", { ...DESIRED, ports });
    await kernel.sh("task", "nft add table ip seen");
    await kernel.exec("task", "nft", "add chain ip seen in { type filter hook prerouting priority raw; }");
    await kernel.exec("task", "nft", "add rule ip seen in tcp dport 9200 counter");
    const seen = async () => Number(/packets (\d+)/.exec(await kernel.sh("task", "nft list table ip seen"))?.[1]);
    /** Whether any packet of it reaches the task, answered or not. */
    const reaches = async (address: string) => {
      const before = await seen();
      await ask(kernel, "client", address, REFUSED_MS);
      return (await seen()) > before;
    };
    await published(everywhere);
    for (const address of [inner, virtual, "127.0.0.1"])
      t.true(await reaches(address), `${address}, when on all addresses`);
    const on = (address: string, onEveryLink: boolean) => ({ ...everywhere, address, onEveryLink });
    await published(on(inner, false), on("127.0.0.1", false), on(virtual, true));
    for (const address of [inner, "127.0.0.1"]) t.false(await reaches(address), address);
    t.is(await ask(kernel, "client", virtual), "192.0.2.100", "an address of lo is no link's own");
    t.is(await ask(kernel, "node", inner), inner);
    t.is(await ask(kernel, "node", "127.0.0.1"), "10.192.0.2");
  },
);

systemTest("the port of a manager's store is for managers alone, and for the node itself", async (t) => {
  const { kernel, driver } = await setUp(t);
  const listen = `require("net").createServer((s) => s.end("store")).listen(${STORE_PEER_PORT}, "0.0.0.0")`;
  const [file, ...args] = kernel.in("node", process.execPath, "-e", listen);
  const server = spawn(file!, args, { stdio: "ignore" });
  t.teardown(() => server.kill("SIGKILL"));
  await kernel.sh("client", "ip addr add 192.0.2.12/24 dev eth0");
  await kernel.sh("node", "ip link set lo up");
  const askStore = async (from: string, source: string, tryMs = TRY_MS): Promise<string> => {
    const script = `const s = require("net").connect({ port: ${STORE_PEER_PORT}, host: "192.0.2.11", localAddress: "${source}" });
      s.setTimeout(${tryMs}, () => s.destroy()); s.on("error", () => {}); s.pipe(process.stdout)`;
    return (await tryRun(kernel.in(from, process.execPath, "-e", script))).stdout;
  };
  await waitFor(async () => (await askStore("node", "192.0.2.11")) === "store", { what: "the store's port" });
  await driver.call("mesh.apply", DESIRED);
  t.is(await askStore("client", "192.0.2.100"), "store", "a node that is no manager leaves the port alone");
  await driver.call("mesh.apply", { ...DESIRED, storePeers: ["192.0.2.11", "192.0.2.12"] });
  t.is(await askStore("client", "192.0.2.100", REFUSED_MS), "");
  t.is(await askStore("client", "192.0.2.12"), "store", "another manager");
  t.is(await askStore("node", "192.0.2.11"), "store", "itself");
});

systemTest("the same again starts no process, unless it is to look", async (t) => {
  const { driver } = await setUp(t);
  await driver.call("mesh.apply", DESIRED);
  const before = await driver.call("processes");
  t.deepEqual(await driver.call("mesh.apply", structuredClone(DESIRED)), []);
  t.is(await driver.call("processes"), before);
  await driver.call("mesh.apply", DESIRED, LOOK);
  t.true(Number(await driver.call("processes")) > Number(before));
});

systemTest("the same again leaves the table alone; a table that was flushed comes back", async (t) => {
  const { kernel, driver } = await setUp(t);
  await driver.call("mesh.apply", DESIRED);
  const list = () => kernel.sh("node", "nft -a list table ip overlayd");
  const before = await list();
  await driver.call("mesh.apply", DESIRED, LOOK);
  t.is(await list(), before);
  await kernel.sh("node", "nft flush ruleset");
  await driver.call("mesh.apply", DESIRED, LOOK);
  t.is(await ask(kernel, "client", "192.0.2.11"), "192.0.2.100");
  await driver.call("mesh.remove");
  await driver.call("mesh.remove");
  t.is((await kernel.sh("node", "nft list ruleset")).trim(), "");
});

systemTest("what somebody flushes or deletes is put back at once", async (t) => {
  const { kernel, driver } = await setUp(t);
  await driver.call("mesh.apply", DESIRED);
  await driver.call("mesh.watch");
  const list = () => kernel.sh("node", "nft --stateless list table ip overlayd");
  const before = await list();
  for (const blow of ["flush ruleset", "flush table ip overlayd", "flush map ip overlayd tcp_ports"]) {
    // The monitor may not have begun to look: a second blow it sees.
    const isRestored = async () => {
      await kernel.sh("node", `nft ${blow}`);
      await waitFor(async () => (await list()) === before, { what: "the table", deadlineMs: TRY_MS });
      return true;
    };
    await waitFor(isRestored, { what: `the table to be put back after ${blow}` });
  }
  t.is(await ask(kernel, "client", "192.0.2.11"), "192.0.2.100");
});

systemTest("a blow in the very moment of the repair is repaired as well", async (t) => {
  const { kernel, driver } = await setUp(t);
  await driver.call("mesh.apply", DESIRED);
  await driver.call("mesh.watch");
  const list = () => kernel.sh("node", "nft --stateless list table ip overlayd");
  const before = await list();
  const flush = "nft flush chain ip overlayd prerouting";
  await waitFor(
    async () => {
      await kernel.sh("node", flush); // the monitor may not have begun to look
      return waitFor(async () => (await list()) === before, { what: "the table", deadlineMs: TRY_MS });
    },
    { what: "the monitor to look" },
  );
  const repaired = "nft list chain ip overlayd prerouting 2>/dev/null | grep -q jump";
  const blows = `for i in 1 2 3 4 5 6 7 8 9 10; do until ${repaired}; do :; done; ${flush}; done`;
  await kernel.exec("node", "timeout", `${DEADLINE_MS / 1000}`, "bash", "-c", blows);
  t.true(await waitFor(async () => (await list()) === before, { what: "the table to be put back after the last" }));
});

systemTest("a process that has a port keeps it: everywhere, or on its address", async (t) => {
  const { kernel, driver } = await setUp(t);
  const listen = async (host: string, ipv6Only = false): Promise<ReturnType<typeof spawn>> => {
    const options = JSON.stringify({ port: 9200, host, ipv6Only });
    const script = `require("net").createServer((s) => s.end("own")).listen(${options})`;
    const [file, ...args] = kernel.in("node", process.execPath, "-e", script);
    const holder = spawn(file!, args, { stdio: "ignore" });
    t.teardown(() => holder.kill("SIGKILL"));
    await waitFor(async () => (await kernel.sh("node", "ss -ltn")).includes(":9200"), { what: "the port to be held" });
    return holder;
  };
  const end = async (holder: ReturnType<typeof spawn>): Promise<void> => {
    const gone = new Promise((resolve) => holder.on("close", resolve));
    holder.kill("SIGKILL");
    await gone;
  };
  const held = { port: 9200, protocol: "tcp" };
  for (const host of ["0.0.0.0", "::"]) {
    const everywhere = await listen(host);
    t.deepEqual(await driver.call("mesh.apply", DESIRED, LOOK), [{ ...held, address: "0.0.0.0" }], host);
    t.is(await ask(kernel, "client", "192.0.2.11"), "own", host);
    await end(everywhere);
  }
  const ipv6Only = await listen("::", true);
  t.deepEqual(await driver.call("mesh.apply", DESIRED, LOOK), []);
  t.is(await ask(kernel, "client", "192.0.2.11"), "192.0.2.100");
  await end(ipv6Only);
  await driver.call("mesh.apply", { ...DESIRED, ports: [] });
  await listen("127.0.0.1");
  t.deepEqual(await driver.call("mesh.apply", DESIRED), [{ ...held, address: "127.0.0.1" }]);
  t.is(await ask(kernel, "client", "192.0.2.11"), "192.0.2.100");
  t.is(await ask(kernel, "node", "127.0.0.1"), "own");
});

systemTest("a thousand published ports more leave the others in force", async (t) => {
  const { kernel, driver } = await setUp(t);
  await driver.call("mesh.apply", DESIRED);
  const more = (["tcp", "udp"] as const).flatMap((protocol) =>
    Array.from({ length: 500 }, (_, i) => ({ ...DESIRED.ports[0]!, protocol, port: 10_000 + i })),
  );
  await driver.call("mesh.apply", { ...DESIRED, ports: [...DESIRED.ports, ...more] });
  t.is(await ask(kernel, "client", "192.0.2.11"), "192.0.2.100");
});

systemTest("containers leave with the node's address, those of internal networks do not leave", async (t) => {
  const { kernel, driver } = await setUp(t);
  await kernel.sh("task", "ip addr add 10.192.16.5/32 dev lo");
  await kernel.sh("node", "ip route add 10.192.16.5 dev overlay0");
  await driver.call("mesh.apply", DESIRED);
  await kernel.sh("client", "nft add table ip seen");
  await kernel.exec("client", "nft", "add chain ip seen in { type filter hook prerouting priority raw; }");
  await kernel.exec("client", "nft", "add rule ip seen in ip saddr 192.0.2.11 udp dport 9999 counter");
  const seen = async () => Number(/packets (\d+)/.exec(await kernel.sh("client", "nft list table ip seen"))?.[1]);
  const script = `const s = require("dgram").createSocket("udp4"); s.bind(0, "10.192.16.5", () => s.send("x", 9999, "192.0.2.100", () => s.close()))`;
  // A TUN is not a veth: what comes out of this one is `iifname overlay0` all the same, but leaves by `under`.
  await kernel.exec("task", process.execPath, "-e", script);
  t.is(await seen(), 1);
  await driver.call("mesh.apply", { ...DESIRED, internal: [cidr("10.192.16.0/20")] });
  await kernel.exec("task", process.execPath, "-e", script);
  t.is(await seen(), 1);
});
