// A Linux vxlan device as peer, with its default settings: the kernel speaks RFC 7348 with all of our network through one node, both
// ways. It is on the same machine, behind a veth, so no network card makes the checksums and segments that it leaves to one.
import { ipv4, macOf } from "../../src/lib/ip.ts";
import { Background, curl, DEADLINE_MS, dig, ping, pingInVain, waitFor } from "./command.ts";
import type { LabHost } from "./lab.ts";
import { addressOf, networkOf, runningTasks, vipOf } from "./listings.ts";
import { program } from "./program.ts";
import { systemTest, useLab } from "./system-test.ts";

/** Not the one that its address would make. */
const OWN_MAC = "02:1b:21:0a:0b:0c";

let vtep: LabHost;
let ownAddress: string;
/** The address of the task on the node that the VTEP knows; `farAddress` is that of the task on the other node. */
let taskAddress: string;
let farAddress: string;

const lab = useLab({ prefix: "krn", nodes: 2 }, async ({ nodes: [node1, node2], addHost }) => {
  await node1!.ctl("network", "create", "web");
  await node1!.ctl(
    ...["service", "create", "--name", "echo", "--replicas", "2", "--network", "web"],
    ...["--", ...program("echo-server", 7)],
  );
  const tasks = await runningTasks(node1!, "echo");
  taskAddress = addressOf(tasks.find(({ node }) => node === node2!.name)!);
  farAddress = addressOf(tasks.find(({ node }) => node === node1!.name)!);

  vtep = await addHost("vtep", 50);
  new Background(vtep.inside(program("echo-server", 7))); // lives in the host's namespace and ends with the lab
  const { gateway, vni } = await networkOf(node1!, "web");
  ownAddress = gateway.replace(/\.\d+$/, ".200");
  await node1!.ctl(
    ...["endpoint", "add", "--network", "web", "--name", "kernel", "--ip", ownAddress],
    ...["--mac", OWN_MAC, "--vtep", vtep.address],
  );
  await waitFor(async () => (await networkOf(node2!, "web")).endpoints.some(({ name }) => name === "kernel"), {
    what: "the endpoint to be known on the other node",
  });
  const link = ["id", `${vni}`, "local", vtep.address, "remote", node2!.address, "dstport", "4789"];
  await vtep.exec(["ip", "link", "add", "vx0", "address", OWN_MAC, "mtu", "1450", "type", "vxlan", ...link]);
  await vtep.exec(["ip", "link", "set", "vx0", "up"]);
  await vtep.exec(["ip", "address", "add", `${ownAddress}/20`, "dev", "vx0"]);
});

systemTest("the kernel pings a container: its ARP is answered with the container's MAC", async (t) => {
  const { status, stdout } = await vtep.tryExec(ping(taskAddress, "-c3", "-i0.2"));
  t.is(status, 0, stdout);
  const neighbour = await vtep.exec(["ip", "neighbour", "show", "dev", "vx0", taskAddress]);
  t.true(neighbour.includes(macOf(ipv4(taskAddress))), neighbour);
});

for (const protocol of ["tcp", "udp"] as const) {
  systemTest(`${protocol} from the kernel to a container, and from a container to the kernel`, async (t) => {
    const out = await vtep.tryExec(program("ask", protocol, taskAddress, 7, 5));
    t.is(out.status, 0, out.stderr);
    for (const line of out.stdout.trim().split("\n")) t.is(line.split(" ")[1], ownAddress);
    const back = await lab().nodes[1]!.container("web", program("ask", protocol, ownAddress, 7, 5));
    t.is(back.status, 0, back.stderr);
  });
}

systemTest("a container pings the kernel", async (t) => {
  const { status, stdout } = await lab().nodes[1]!.container("web", ping(ownAddress, "-c3", "-i0.2"));
  t.is(status, 0, stdout);
});

systemTest("the gateway answers the kernel's ARP and ping", async (t) => {
  const { gateway } = await networkOf(lab().nodes[1]!, "web");
  const { status, stdout } = await vtep.tryExec(ping(gateway, "-c2", "-i0.2"));
  t.is(status, 0, stdout);
});

systemTest("large transfers between the kernel and containers of both nodes arrive whole, both ways", async (t) => {
  // It sends what is asked for, and answers with the length of what it is sent.
  const server = `require("http").createServer((q, s) => {
    if (q.method === "GET") return s.end(Buffer.alloc(5e6, "overlay"));
    let bytes = 0;
    q.on("data", (chunk) => (bytes += chunk.length)).on("end", () => s.end(String(bytes)));
  }).listen(80)`;
  new Background(vtep.inside([process.execPath, "-e", server]));
  await waitFor(async () => (await vtep.exec(["ss", "-ltnH"])).includes(":80 "), { what: "the server to listen" });
  for (const node of lab().nodes) {
    const ask = curl(`http://${ownAddress}`);
    const down = await node.container("web", [...ask, "-o", "/dev/null", "-w", "%{size_download}"]);
    t.is(down.stdout, "5000000", node.name);
    const body = "head -c 5000000 /dev/zero";
    const up = await node.container("web", ["sh", "-c", `${body} | ${ask.join(" ")} -H Expect: --data-binary @-`]);
    t.is(up.stdout, "5000000", node.name);
  }
});

systemTest("a large transfer that the kernel begins, to a task of each node and back, arrives whole", async (t) => {
  const line = "x".repeat(200_000);
  for (const address of [taskAddress, farAddress]) {
    const client = `const socket = require("net").connect(7, "${address}", () => socket.write("x".repeat(200000) + "\\n"));
      let bytes = 0;
      socket.on("data", (chunk) => { bytes += chunk.length; if (chunk.at(-1) === 10) { console.log(bytes); process.exit(0); } });
      setTimeout(() => process.exit(1), ${DEADLINE_MS});`;
    const { stdout } = await vtep.tryExec([process.execPath, "-e", client]);
    t.is(Number(stdout), `${address} ${ownAddress} ${line}\n`.length, address);
  }
});

systemTest(
  "a super-packet of UDP that the kernel sends reaches tasks of both nodes as the datagrams that it stands for",
  async (t) => {
    for (const address of [taskAddress, farAddress]) {
      const { status, stdout } = await vtep.tryExec(program("ask-train", address, 7, 40, 1200));
      t.is(status, 0, `${address} answered ${stdout}`);
    }
  },
);

systemTest("the kernel reaches the other node's tasks, and the VIP, through the one node that it knows", async (t) => {
  for (const protocol of ["tcp", "udp"] as const) {
    const far = await vtep.tryExec(program("ask", protocol, farAddress, 7, 3));
    t.is(far.status, 0, far.stderr);
    t.deepEqual(
      new Set(
        far.stdout
          .trim()
          .split("\n")
          .map((line) => line.split(" ")[1]),
      ),
      new Set([ownAddress]),
    );
    const vip = (await vipOf(lab().nodes[0]!, "echo"))!;
    const balanced = await vtep.tryExec(program("ask", protocol, vip, 7, 8));
    t.is(balanced.status, 0, balanced.stderr);
    const tasks = new Set(
      balanced.stdout
        .trim()
        .split("\n")
        .map((line) => line.split(" ")[0]),
    );
    t.deepEqual([...tasks].sort(), [taskAddress, farAddress].sort());
  }
  const { status, stdout } = await vtep.tryExec(ping(farAddress));
  t.is(status, 0, stdout);
});

systemTest("a client that crashed connects again from the same port, to a task and to the VIP", async (t) => {
  const vip = (await vipOf(lab().nodes[0]!, "echo"))!;
  for (const [i, address] of [taskAddress, farAddress, vip].entries()) {
    const { status, stderr } = await vtep.tryExec(program("crash-and-return", address, 7, 40_000 + i));
    t.is(status, 0, `${address}: ${stderr}`);
  }
});

systemTest("the network's gateway answers the kernel's questions for names", async (t) => {
  const { gateway } = await networkOf(lab().nodes[0]!, "web");
  const vip = (await vipOf(lab().nodes[0]!, "echo"))!;
  for (const way of ["+notcp", "+tcp"]) {
    const asked = await vtep.exec(dig("+short", way, `@${gateway}`, "echo"));
    t.is(asked.trim(), vip, way);
  }
});

systemTest("an address that is not declared for the VTEP reaches nobody", async (t) => {
  const other = ownAddress.replace(/\d+$/, "201");
  await vtep.exec(["ip", "address", "add", `${other}/20`, "dev", "vx0"]);
  for (const address of [taskAddress, farAddress, (await networkOf(lab().nodes[0]!, "web")).gateway]) {
    t.not((await vtep.tryExec(pingInVain(address, "-I", other))).status, 0, address);
  }
  await vtep.exec(["ip", "address", "del", `${other}/20`, "dev", "vx0"]);
});

systemTest("a container finds the kernel by its name", async (t) => {
  const { status, stderr } = await lab().nodes[1]!.container("web", program("ask", "tcp", "kernel", 7, 3));
  t.is(status, 0, stderr);
});

systemTest("datagrams larger than the MTU come in pieces, both ways", async (t) => {
  const out = await vtep.tryExec(ping(taskAddress, "-c2", "-i0.2", "-s", "5000"));
  t.is(out.status, 0, out.stdout);
  const back = await lab().nodes[1]!.container("web", ping(ownAddress, "-c2", "-i0.2", "-s", "5000"));
  t.is(back.status, 0, back.stdout);
});

systemTest("an endpoint that is removed is unreachable at once, and its VTEP unknown", async (t) => {
  const [node1, node2] = lab().nodes;
  await node1!.ctl("endpoint", "rm", "kernel");
  await waitFor(
    async () => {
      const { stdout } = await node2!.container("web", pingInVain(ownAddress));
      return stdout.includes("Unreachable");
    },
    { what: "the ping to be refused" },
  );
  t.not((await vtep.tryExec(pingInVain(taskAddress))).status, 0);
});
