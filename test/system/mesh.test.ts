// The routing mesh: a published port is answered on every node, and the task sees who asked.
import { curl, TRY_MS, waitFor } from "./command.ts";
import { CLIENT_ADDRESS, type LabNode } from "./lab.ts";
import { networkOf, nodeView } from "./listings.ts";
import { program } from "./program.ts";
import { systemTest, useLab } from "./system-test.ts";

const lab = useLab({ prefix: "msh", nodes: 3 }, async ({ nodes: [node1] }) => {
  await node1!.ctl("network", "create", "web");
  // Two tasks on three nodes: one node has none.
  await node1!.ctl(
    ...["service", "create", "--name", "echo", "--replicas", "2", "--network", "web"],
    ...["-p", "7000:7", "-p", "7000:7/udp", "--", ...program("echo-server", 7)],
  );
});

for (const protocol of ["tcp", "udp"] as const) {
  systemTest(
    `${protocol} from outside: every node answers, both tasks get their share and see the client`,
    async (t) => {
      for (const node of lab().nodes) {
        const { stdout, stderr, status } = await lab().client.tryExec(program("ask", protocol, node.address, 7000, 10));
        t.is(status, 0, `${node.name}: ${stderr}`);
        const lines = stdout
          .trim()
          .split("\n")
          .map((line) => line.split(" "));
        t.is(new Set(lines.map(([task]) => task)).size, 2, `${node.name}: ${stdout}`);
        t.true(
          lines.every(([, client]) => client === CLIENT_ADDRESS),
          `${node.name}: ${stdout}`,
        );
      }
    },
  );
}

systemTest(
  "on a node's localhost the task sees the node's address on the overlay, on its own address that one",
  async (t) => {
    for (const node of lab().nodes) {
      const { ingressAddress } = await nodeView(node);
      for (const [target, expected] of [
        ["127.0.0.1", ingressAddress],
        [node.address, node.address],
      ] as const) {
        const { stdout, stderr, status } = await node.tryExec(program("ask", "tcp", target, 7000, 4));
        t.is(status, 0, `${node.name} to ${target}: ${stderr}`);
        for (const line of stdout.trim().split("\n")) t.is(line.split(" ")[1], expected, `${node.name} to ${target}`);
      }
    }
  },
);

systemTest("a container reaches a published port on its gateway and on another node", async (t) => {
  const [node1, node2] = lab().nodes;
  const { gateway } = await networkOf(node1!, "web");
  for (const target of [gateway, node2!.address]) {
    const { status, stderr } = await node1!.container("web", program("ask", "tcp", target, 7000, 4));
    t.is(status, 0, `${target}: ${stderr}`);
  }
});

systemTest("an address on lo is the node's own, from the moment it is there to the moment it goes", async (t) => {
  const [node1] = lab().nodes;
  const address = "198.51.100.77";
  const connect = (
    port: number,
  ): string => `const s = require("net").connect(${port}, "${address}", () => process.exit(0));
    s.on("error", () => process.exit(1)); setTimeout(() => process.exit(1), ${TRY_MS})`;
  const asks = async (node: LabNode, port: number): Promise<boolean> =>
    (await node.container("web", [process.execPath, "-e", connect(port)])).status === 0;
  const warnings = async (): Promise<string> => {
    const { stdout, stderr } = await node1!.tryExec(["overlayctl", "service", "ps", "on-lo"]);
    return stdout + stderr;
  };
  t.false(await asks(node1!, 7000));
  await node1!.exec(["ip", "address", "add", `${address}/32`, "dev", "lo"]);
  await waitFor(() => asks(node1!, 7000), { what: "a container to be answered there" });
  const published = ["service", "create", "--name", "on-lo", "--network", "web", "-p", `${address}:7100:7`];
  const { stdout, stderr } = await node1!.tryExec(["overlayctl", ...published, "--", ...program("echo-server", 7)]);
  t.notRegex(`${stdout}${stderr}`, /no node answers/);
  t.true(await asks(node1!, 7100));
  t.notRegex(await warnings(), /no node answers/);
  await node1!.exec(["ip", "address", "del", `${address}/32`, "dev", "lo"]);
  await waitFor(async () => /no node answers/.test(await warnings()), { what: "nobody to answer there" });
  await node1!.ctl("service", "rm", "on-lo");
});

systemTest("a large page arrives whole at a client outside", async (t) => {
  const [node1, node2] = lab().nodes;
  const server = `require("http").createServer((q, s) => s.end(Buffer.alloc(5e6, "overlay"))).listen(80)`;
  await node1!.ctl(
    ...["service", "create", "--name", "blob", "--network", "web", "-p", "8080:80", "--constraint", "node.name==mshn1"],
    ...["--", process.execPath, "-e", server],
  );
  const size = await lab().client.exec(
    curl("-o", "/dev/null", "-w", "%{size_download}", `http://${node2!.address}:8080`),
  );
  t.is(size, "5000000");
});

systemTest("a port that is taken is refused, with who has it", async (t) => {
  const { status, stderr } = await lab().nodes[0]!.tryExec([
    ...["overlayctl", "service", "create", "--name", "other", "-p", "7000:80", "--", "sleep", "60"],
  ]);
  t.not(status, 0);
  t.regex(stderr, /7000.*echo/);
});

systemTest("a service that is removed frees its port: clients are refused, and another may take it", async (t) => {
  const [node1, , node3] = lab().nodes;
  const ask = () => lab().client.tryExec(program("ask", "tcp", node3!.address, 7000, 1));
  t.is((await ask()).status, 0);
  await node1!.ctl("service", "rm", "echo");
  await waitFor(async () => (await ask()).stderr.includes("ECONNREFUSED"), { what: "the port to be closed" });
  await node1!.ctl("service", "create", "--name", "next", "-p", "7000:7", "--", ...program("echo-server", 7));
  const { status, stderr } = await ask();
  t.is(status, 0, stderr);
});
