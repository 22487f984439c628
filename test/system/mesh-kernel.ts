// For tests of mesh/ on the real kernel: a client outside, a node, and a service behind the node's TUN (here one end of a veth).
import { spawn } from "node:child_process";
import type { ExecutionContext } from "ava";
import { cidr } from "../../src/lib/ip.ts";
import { waitFor } from "./command.ts";
import { type Driver, Kernel } from "./kernel.ts";

export const VIP = "10.192.0.7";
export const OTHER_VIP = "10.192.0.8";
export const DESIRED = {
  pool: cidr("10.192.0.0/10"),
  device: "overlay0",
  vethPrefix: "ovl",
  tunnelPorts: [4789],
  ingressAddress: "10.192.0.2",
  internal: [],
  storePeers: null,
  ports: [{ protocol: "tcp", port: 9200, vip: VIP, address: null, onEveryLink: true }],
};

/** `server` is the task's program, for `node -e`: it listens on TCP port 9200. */
export async function setUpMesh(t: ExecutionContext, server: string): Promise<{ kernel: Kernel; driver: Driver }> {
  const kernel = await Kernel.create(t, "node", "client", "task");
  const commands: [string, string][] = [
    ["node", `ip link add under type veth peer name eth0 netns ${kernel.netns("client")}`],
    ["node", `ip link add overlay0 type veth peer name eth0 netns ${kernel.netns("task")}`],
    ["node", "ip addr add 192.0.2.11/24 dev under"],
    ["node", "ip addr add 10.192.0.2/32 dev overlay0"],
    ["node", "ip link set under up"],
    ["node", "ip link set overlay0 up"],
    ["node", "ip route add 10.192.0.0/10 dev overlay0 src 10.192.0.2"],
    ["node", "sysctl -qw net.ipv4.ip_forward=1 net.ipv4.conf.overlay0.route_localnet=1"],
    ["client", "ip addr add 192.0.2.100/24 dev eth0"],
    ["client", "ip link set eth0 up"],
    ["client", "ip route add 10.192.0.0/10 via 192.0.2.11"],
    ["task", `ip addr add ${VIP}/10 dev eth0`],
    ["task", "ip link set eth0 up"],
    ["task", "ip route add default via 10.192.0.2"],
  ];
  for (const [name, command] of commands) await kernel.sh(name, command);
  const [file, ...args] = kernel.in("task", process.execPath, "-e", server);
  const child = spawn(file!, args, { stdio: "ignore" });
  t.teardown(() => child.kill("SIGKILL"));
  await waitFor(async () => (await kernel.sh("task", "ss -ltn")).includes(":9200"), { what: "the server" });
  return { kernel, driver: kernel.driver("node") };
}
