// What happens elsewhere costs a node nothing in the kernel: a change that concerns none of its tasks, endpoints, links and
// published ports starts no process there.
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import type { ServiceView } from "../../src/api/schema.ts";
import { IN_VAIN_MS, waitFor } from "./command.ts";
import type { LabNode } from "./lab.ts";
import { untilRunning } from "./listings.ts";
import { program } from "./program.ts";
import { systemTest, useLab } from "./system-test.ts";

/** The time between two looks of an agent at its links and rules, and how late the first of two may have been noticed. */
const BETWEEN_LOOKS_MS = 30_000;
const LATE_MS = 5000;
const NOTE_COMMANDS = fileURLToPath(new URL("programs/note-commands.js", import.meta.url));

const lab = useLab({ prefix: "els", nodes: 3 }, async ({ nodes: [node1, , node3] }) => {
  await node1!.ctl("network", "create", "web");
  await node3!.stopAgent();
  const noted = [`NODE_OPTIONS=--import ${NOTE_COMMANDS}`, `COMMANDS_FILE=${commandsFile(node3!)}`];
  await node3!.startAgent(["env", ...noted]);
});

function commandsFile(node: LabNode): string {
  return join(node.directory, "commands");
}

/** How often the node's agent has started a program that looks at links or rules, or changes them. */
function commandsOf(node: LabNode): number {
  const file = commandsFile(node);
  const lines = existsSync(file) ? readFileSync(file, "utf8").trim().split("\n") : [];
  return lines.filter((line) => ["ip", "tc", "nft", "ss", "conntrack"].includes(JSON.parse(line)[0])).length;
}

/** Resolves just after one of the agent's regular looks, with how many programs that started. */
async function untilLooked(node: LabNode): Promise<number> {
  const before = commandsOf(node);
  await waitFor(() => commandsOf(node) > before, { what: `${node.name}'s agent to look at its links` });
  for (let count = commandsOf(node), last = -1; count !== last; count = commandsOf(node)) {
    last = count;
    await delay(IN_VAIN_MS);
  }
  return commandsOf(node) - before;
}

/** A service, its tasks and a container on the first node come and go. Resolves when the third node knows of the last change. */
async function changeElsewhere(node1: LabNode, node3: LabNode): Promise<void> {
  const create = ["service", "create", "--name", "away", "--replicas", "2", "--network", "web"];
  await node1.ctl(...create, "--constraint", "node.name==elsn1", "--", ...program("echo-server", 7));
  await untilRunning(node1, "away", 2);
  await node1.ctl("service", "scale", "away=1");
  await node1.container("web", ["true"]);
  const known = async (): Promise<boolean> => {
    const services = await node3.ctlJson<ServiceView[]>("service", "ls");
    return services.some(({ name, running }) => name === "away" && running === 1);
  };
  await waitFor(known, { what: "the third node to know of the last change" });
  await delay(IN_VAIN_MS);
}

systemTest("services, tasks and containers of another node start no process here, and a network does", async (t) => {
  const [node1, , node3] = lab().nodes as [LabNode, LabNode, LabNode];
  await untilLooked(node3); // the first ones may come while it still starts
  const onceLooked = await untilLooked(node3);
  const [before, began] = [commandsOf(node3), performance.now()];
  await changeElsewhere(node1, node3);
  const started = commandsOf(node3) - before;
  // On a slow machine the changes take longer than it is to the next look.
  const looks = Math.floor((performance.now() - began + LATE_MS) / BETWEEN_LOOKS_MS);
  t.log(`${started} processes, ${looks} looks, each of ${onceLooked} processes`);
  t.true(started <= looks * onceLooked);
  const now = commandsOf(node3);
  await node1.ctl("network", "create", "more");
  await waitFor(() => commandsOf(node3) > now, { what: "a new network to reach the third node's links" });
});
