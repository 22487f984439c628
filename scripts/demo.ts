// `npm run demo`: three nodes, one service and an outside client, in network namespaces of this machine.
// With `-- --keep` it stays up afterwards; `-- --down` takes it down.
import { existsSync } from "node:fs";
import { parseArgs } from "node:util";
import { createLab, type Lab } from "../test/system/lab.ts";
import { type LabNames, removeLab } from "../test/system/lab-removal.ts";
import { showService } from "./demo-steps.ts";
import { Terminal } from "./terminal.ts";

const NAMES: LabNames = {
  prefix: "demo",
  nodeNames: ["node1", "node2", "node3"],
  directory: "/tmp/overlayd-demo",
};

async function demo(keep: boolean): Promise<number> {
  const terminal = new Terminal();
  let lab: Lab | undefined;
  if (existsSync(NAMES.directory)) console.log("# An earlier demo, left up or cut off, is taken down first.");
  try {
    lab = await createLab({ ...NAMES, nodes: 3, configFile: (index) => `configs/node${index + 1}.yaml` });
    await showService(terminal, lab);
  } catch (error) {
    terminal.check("the demo runs to its end", false, String(error));
    for (const node of lab?.nodes ?? []) console.log(`\n# the end of ${node.name}'s log\n${node.logTail()}`);
  } finally {
    if (!keep) await lab?.teardown();
  }
  if (keep && lab !== undefined) explain(lab);
  console.log(`demo: ${terminal.checks} checks, ${terminal.failed} failed`);
  return terminal.failed;
}

/** How to look around in what is left up. */
function explain(lab: Lab): void {
  const [node] = lab.nodes;
  console.log(`
# It is still up. This opens a shell on node1, where overlayctl asks its agent; node2 and node3 are reached the same way:
  sudo nsenter --net=/run/netns/${node?.netns} env PATH=${node?.env.PATH?.split(":")[0]}:$PATH OVERLAYD_SOCKET=${node?.env.OVERLAYD_SOCKET} bash
# The client outside:
  sudo ip netns exec ${lab.client.netns} curl http://192.0.2.11:9200
# A node's log:
  less ${node?.logPath}
# Take it down:
  sudo npm run demo -- --down
`);
}

const { values } = parseArgs({ options: { keep: { type: "boolean" }, down: { type: "boolean" } } });
if (process.getuid?.() !== 0) {
  console.error("The demo makes network namespaces, which needs root: sudo npm run demo");
  process.exitCode = 1;
} else if (values.down) {
  await removeLab(NAMES);
  console.log("The demo is down.");
} else {
  process.exitCode = (await demo(values.keep ?? false)) === 0 ? 0 : 1;
}
