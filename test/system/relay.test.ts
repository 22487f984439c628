// A node without nftables: published ports are relayed by its agent.
import test from "ava";
import type { StatsView } from "../../src/api/schema.ts";
import { Background, waitFor } from "./command.ts";
import { nodeView } from "./listings.ts";
import { program, systemTest, useLab } from "./system-test.ts";

const SECOND_ADDRESS = "192.0.2.212";
/** The other node's agent has its own view of the file system: nobody else would find what a task leaves there. */
const PLACE = ["--constraint", "node.name==rlyn1"];
let agent: Background | undefined;

const lab = useLab({ prefix: "rly", nodes: 2 }, async ({ nodes: [node1, node2] }) => {
  await node2!.stopAgent();
  await node2!.exec(["nft", "delete", "table", "ip", "overlayd"]);
  await node2!.exec(["ip", "address", "add", `${SECOND_ADDRESS}/24`, "dev", "eth0"]);
  const start = `mount --bind /bin/false "$(command -v nft)"; exec overlayd --config ${node2!.configPath}`;
  agent = new Background(node2!.inside(["unshare", "--mount", "sh", "-c", start]), node2!.env);
  await waitFor(() => node2!.agentAnswers(), { what: "the agent without nftables to answer" });
  const ports = ["-p", "7000:7", "-p", "53:7/udp", "-p", "7001:7999", "-p", `${SECOND_ADDRESS}:7002:7/udp`];
  await node1!.ctl("service", "create", "--name", "echo", ...PLACE, ...ports, "--", ...program("echo-server", 7));
});
test.after.always(() => agent?.end("SIGTERM"));

systemTest("both protocols are relayed on every address, answers come from the one that was asked", async (t) => {
  const [, node2] = lab().nodes;
  const { ingressAddress } = await nodeView(node2!);
  const rows = [
    ["tcp", node2!.address, 7000],
    ["tcp", SECOND_ADDRESS, 7000],
    ["udp", node2!.address, 53],
    ["udp", SECOND_ADDRESS, 53],
    ["udp", SECOND_ADDRESS, 7002],
  ] as const;
  for (const [protocol, address, port] of rows) {
    const { stdout, stderr } = await lab().client.tryExec(program("ask", protocol, address, port, 3));
    t.is(stderr, "", `${protocol} ${address}:${port}`);
    for (const line of stdout.trim().split("\n")) t.is(line.split(" ")[1], ingressAddress);
  }
  const { stdout, stderr } = await node2!.tryExec(program("ask", "udp", "127.0.0.1", 53, 1));
  t.not(stdout, "", stderr);
  t.regex((await lab().client.tryExec(program("ask", "udp", node2!.address, 7002, 1))).stderr, /ECONNREFUSED/);
});

systemTest("what the relays drop is counted by its reason", async (t) => {
  const [, node2] = lab().nodes;
  const { stderr } = await lab().client.tryExec(program("ask", "tcp", node2!.address, 7001, 1));
  t.regex(stderr, /ECONNRESET/);
  const { drops } = await node2!.ctlJson<StatsView>("stats");
  t.is(drops["relay-no-task"], 1);
});

systemTest("a port that a process has on one address stays its own there", async (t) => {
  const [node1, node2] = lab().nodes;
  const server = `require("net").createServer((s) => s.end("own")).listen(7003, "${node2!.address}", () => console.log("holds"))`;
  const holder = new Background(node2!.inside([process.execPath, "-e", server]));
  t.teardown(() => holder.end("SIGKILL"));
  await holder.says("holds");
  const echo = program("echo-server", 7);
  await node1!.ctl("service", "create", "--name", "more", ...PLACE, "-p", "7003:7", "--", ...echo);
  const says = async () => (await node1!.shell("overlayctl service ps more")).stderr;
  await waitFor(async () => (await says()).includes(`rlyn2 does not answer 7003/tcp at ${node2!.address}`), {
    what: "service ps to say who has the port",
  });
  const ask = (address: string) => lab().client.tryExec(program("ask", "tcp", address, 7003, 1));
  t.is((await ask(node2!.address)).stdout, "own\n");
  t.regex((await ask(SECOND_ADDRESS)).stdout, /line-0/);
  await holder.end("SIGKILL");
  await waitFor(async () => (await ask(node2!.address)).stdout.includes("line-0"), {
    what: "the mesh to have the port",
  });
  t.is(await says(), "");
});
