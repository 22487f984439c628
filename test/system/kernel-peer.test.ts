// A Linux vxlan device as peer: the kernel speaks RFC 7348 with our containers, both ways.
import { ipv4, macOf } from "../../src/lib/ip.ts";
import { Background, curl, ping, pingInVain, waitFor } from "./command.ts";
import type { LabHost } from "./lab.ts";
import { addressOf, networkOf, runningTasks } from "./listings.ts";
import { program, systemTest, useLab } from "./system-test.ts";

/** Not the one that its address would make. */
const OWN_MAC = "02:1b:21:0a:0b:0c";

let vtep: LabHost;
let ownAddress: string;
let taskAddress: string;

const lab = useLab({ prefix: "krn", nodes: 2 }, async ({ nodes: [node1, node2], addHost }) => {
  await node1!.ctl("network", "create", "web");
  await node1!.ctl(
    ...["service", "create", "--name", "echo", "--replicas", "2", "--network", "web"],
    ...["--", ...program("echo-server", 7)],
  );
  taskAddress = addressOf((await runningTasks(node1!, "echo")).find(({ node }) => node === node2!.name)!);

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
  // A network card makes the inner checksum; between two veths nobody would.
  await vtep.exec(["ethtool", "-K", "vx0", "tx-checksum-ip-generic", "off"]);
  // A network card cuts super-packets into packets; a veth hands them on as they are, which no wire does.
  await vtep.exec(["ip", "link", "set", "vx0", "up", "gso_max_segs", "1"]);
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

systemTest("a large transfer between the kernel and a container arrives whole", async (t) => {
  const server = `require("http").createServer((q, s) => s.end(Buffer.alloc(5e6, "overlay"))).listen(80)`;
  new Background(vtep.inside([process.execPath, "-e", server]));
  await waitFor(async () => (await vtep.exec(["ss", "-ltnH"])).includes(":80 "), { what: "the server to listen" });
  const { stdout } = await lab().nodes[1]!.container("web", [
    ...curl("-o", "/dev/null", "-w", "%{size_download}", `http://${ownAddress}`),
  ]);
  t.is(stdout, "5000000");
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
