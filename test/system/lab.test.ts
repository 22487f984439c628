// The lab itself: what the other system tests stand on.
import { readdirSync } from "node:fs";
import { ping, run } from "./command.ts";
import { CLIENT_ADDRESS, createLab, OUTSIDE_ADDRESS } from "./lab.ts";
import { systemTest } from "./system-test.ts";
import { undoAfterAll } from "./undo.ts";

const PREFIX = "labt";

undoAfterAll(async () => {
  if (process.getuid?.() === 0) await (await createLab({ prefix: PREFIX, nodes: 0 })).teardown();
});

systemTest("nodes and the client reach each other, and nothing is left of them", async (t) => {
  const lab = await createLab({ prefix: PREFIX, nodes: 2 });
  const [node1, node2] = lab.nodes;
  for (const [host, address] of [
    [node1!, node2!.address],
    [node1!, OUTSIDE_ADDRESS],
    [lab.client, node2!.address],
    [await lab.addHost("more", 50), CLIENT_ADDRESS],
  ] as const) {
    t.is((await host.tryExec(ping(address))).status, 0, `${host.netns} to ${address}`);
  }
  await lab.teardown();
  t.deepEqual(namespaces(), []);
});

systemTest("what a killed run left behind is removed by the next one", async (t) => {
  await run(["ip", "netns", "add", `${PREFIX}-orphan`]);
  await run(["ip", "netns", "add", `ovl-${PREFIX}n1-orphan`]);
  const lab = await createLab({ prefix: PREFIX, nodes: 1 });
  t.deepEqual(namespaces(), [`${PREFIX}-client`, `${PREFIX}-node1`, `${PREFIX}-switch`]);
  await t.throwsAsync(createLab({ prefix: PREFIX, nodes: 1 }), { message: /another process/ });
  await lab.teardown();
  t.deepEqual(namespaces(), []);
});

function namespaces(): string[] {
  return readdirSync("/run/netns")
    .filter((name) => name.includes(PREFIX))
    .sort();
}
