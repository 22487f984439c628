// A Linux vxlan device as peer: the kernel speaks RFC 7348 with our containers, both ways.
import { ipv4, macOf } from "../../src/lib/ip.ts";
import { Background, waitFor } from "./command.ts";
import type { LabHost } from "./lab.ts";
import { addressOf, networkOf, runningTasks } from "./listings.ts";
import { program, systemTest, useLab } from "./system-test.ts";

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
  // Both live in the host's namespace and end with the lab.
  for (const argv of [
    program("stand-in-node", "192.0.2.11:2377", "kernel", vtep.address, "web"),
    program("echo-server", 7),
  ]) {
    new Background(vtep.inside(argv));
  }
  const { endpoint, vni } = await waitFor(
    async () => {
      const { endpoints, vni } = await networkOf(node2!, "web");
      const endpoint = endpoints.find(({ name }) => name === "kernel");
      return endpoint !== undefined && { endpoint, vni };
    },
    { what: "the stand-in's endpoint" },
  );
  ownAddress = endpoint.address;
  const mac = macOf(ipv4(ownAddress));
  const link = ["id", `${vni}`, "local", vtep.address, "remote", node2!.address, "dstport", "4789"];
  await vtep.exec(["ip", "link", "add", "vx0", "address", mac, "mtu", "1450", "type", "vxlan", ...link]);
  // A network card cuts super-packets into packets; a veth hands them on as they are, which no wire does.
  await vtep.exec(["ip", "link", "set", "vx0", "up", "gso_max_segs", "1"]);
  await vtep.exec(["ip", "address", "add", `${ownAddress}/20`, "dev", "vx0"]);
});

systemTest("the kernel pings a container: its ARP is answered with the container's MAC", async (t) => {
  const { status, stdout } = await vtep.tryExec(["ping", "-c3", "-i0.2", "-W2", taskAddress]);
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
  const { status, stdout } = await lab().nodes[1]!.container("web", ["ping", "-c3", "-i0.2", "-W2", ownAddress]);
  t.is(status, 0, stdout);
});

systemTest("the gateway answers the kernel's ARP and ping", async (t) => {
  const { gateway } = await networkOf(lab().nodes[1]!, "web");
  const { status, stdout } = await vtep.tryExec(["ping", "-c2", "-i0.2", "-W2", gateway]);
  t.is(status, 0, stdout);
});

systemTest("a large transfer between the kernel and a container arrives whole", async (t) => {
  const server = `require("http").createServer((q, s) => s.end(Buffer.alloc(5e6, "overlay"))).listen(80)`;
  new Background(vtep.inside([process.execPath, "-e", server]));
  await waitFor(async () => (await vtep.exec(["ss", "-ltnH"])).includes(":80 "), { what: "the server to listen" });
  const { stdout } = await lab().nodes[1]!.container("web", [
    ...["curl", "-s", "-m", "30", "-o", "/dev/null", "-w", "%{size_download}", `http://${ownAddress}`],
  ]);
  t.is(stdout, "5000000");
});
