// How soon a change is in force: names follow a task that dies and a node that is lost, ports are published, a
// container gets its link, a transfer goes on after an agent was killed.
import { setTimeout as delay } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { run, waitFor } from "../test/system/command.ts";
import { BASE_IMAGE, makeBaseImage, startEngine } from "../test/system/engine.ts";
import type { LabNode } from "../test/system/lab.ts";
import { addressOf, networkOf, processOf, untilRunning } from "../test/system/listings.ts";
import { Background } from "./background.ts";
import type { Experiment, Sample } from "./experiment.ts";
import { LIMITS, limited, type WayLimits } from "./limits.ts";
import { NETWORK, type Overlay, startService } from "./overlay.ts";
import { TCP_PORT } from "./probes.ts";

const WATCH_NAME = fileURLToPath(new URL("../test/system/programs/watch-name.js", import.meta.url));
const MORTAL = "mortal";
const PAIR = "pair";
const PORTS = 500;
const FIRST_PORT = 20_000;
const TRANSFER_SECONDS = 8;
const KILLED_AFTER_MS = 2000;
const INTERVAL_SECONDS = 0.1;

export function changeExperiments(overlay: Overlay, limits: WayLimits): Experiment[] {
  const [node1, node2] = overlay.lab.nodes as [LabNode, LabNode];
  return [
    {
      ...alone(
        "a task dies: its address is gone from the answers",
        [
          { id: "on its node", unit: "s", digits: 3, limit: LIMITS.namesFollowOwn },
          { id: "on the other", unit: "s", digits: 3, limit: LIMITS.namesFollow },
        ],
        () => taskDies([node1, node2]),
      ),
      before: async () => {
        await startService(node1, { name: MORTAL, on: node1, command: ["sleep", "infinity"] });
      },
      after: async () => {
        await node1.ctl("service", "rm", MORTAL);
      },
    },
    {
      ...alone(
        "a node is lost: its task's address is gone from the answers",
        [{ id: "on the other", unit: "s", digits: 3, limit: LIMITS.namesFollow }],
        () => nodeIsLost(node1, node2),
      ),
      before: async () => {
        // A task whose service has another one: the last task stays in the answers until the leader gives its node up.
        const spread = ["--replicas", "2", "--network", NETWORK, "--", "sleep", "infinity"];
        await node1.ctl("service", "create", "--name", PAIR, ...spread);
      },
      after: async () => {
        await node1.ctl("service", "rm", PAIR);
      },
    },
    alone(
      `${2 * PORTS} ports are published`,
      [{ id: "in force on both nodes", unit: "s", digits: 2, limit: LIMITS.portsPublished }],
      () => portsArePublished(node1),
    ),
    linkExperiment(node1),
    alone(
      "a transfer while the agent of its node is killed and started again",
      [{ id: "nothing arrives for", unit: "s", digits: 1, limit: limits.transferStalls }],
      () => transferGoesOn(overlay, [node1]),
    ),
    alone(
      "a transfer while both agents are killed and started again",
      [limited({ id: "nothing arrives for", unit: "s", digits: 1 }, limits.transferStallsBoth)],
      () => transferGoesOn(overlay, [node1, node2]),
    ),
  ];
}

function alone(title: string, metrics: Experiment["metrics"], measure: () => Promise<Sample>): Experiment {
  return { group: "changes", title, metrics, contenders: [{ name: "overlayd", measure }] };
}

interface Answer {
  at: number;
  addresses: readonly string[];
}

/** A program that asks a node's gateway for one name again and again, and its answers. */
class Watch {
  readonly #asker: Background;

  static async start(node: LabNode, name: string): Promise<Watch> {
    const { gateway } = await networkOf(node, NETWORK);
    return new Watch(await Background.start(node, [process.execPath, WATCH_NAME, gateway, name], /./));
  }

  private constructor(asker: Background) {
    this.#asker = asker;
  }

  /** The first answer since `from` that has the address, or lacks it where `has` is false. */
  until(address: string, has: boolean, from = 0): Promise<Answer> {
    const isIt = ({ at, addresses }: Answer): boolean => at >= from && addresses.includes(address) === has;
    return waitFor(() => this.#answers().find(isIt), { what: `answers ${has ? "with" : "without"} ${address}` });
  }

  stop(): Promise<void> {
    return this.#asker.stop();
  }

  #answers(): Answer[] {
    const lines = this.#asker.outputSoFar.split("\n").slice(0, -1);
    return lines.map((line) => JSON.parse(line) as Answer);
  }
}

async function taskDies([node1, node2]: readonly [LabNode, LabNode]): Promise<Sample> {
  const [task] = await untilRunning(node1, MORTAL, 1);
  const address = addressOf(task!);
  const watches = [await Watch.start(node1, `tasks.${MORTAL}`), await Watch.start(node2, `tasks.${MORTAL}`)] as const;
  try {
    for (const watch of watches) await watch.until(address, true);
    const killedAt = Date.now();
    process.kill(await processOf(task!), "SIGKILL");
    const [own, other] = await Promise.all(watches.map((watch) => watch.until(address, false, killedAt)));
    await Promise.all(watches.map((watch) => watch.until(address, true, Math.max(own!.at, other!.at))));
    return { "on its node": (own!.at - killedAt) / 1000, "on the other": (other!.at - killedAt) / 1000 };
  } finally {
    for (const watch of watches) await watch.stop();
  }
}

async function nodeIsLost(node1: LabNode, node2: LabNode): Promise<Sample> {
  const task = (await untilRunning(node1, PAIR, 2)).find(({ node }) => node === node2.name);
  if (task === undefined) throw new Error(`no task of '${PAIR}' runs on ${node2.name}`);
  const address = addressOf(task);
  const watch = await Watch.start(node1, `tasks.${PAIR}`);
  try {
    await watch.until(address, true);
    const killedAt = Date.now();
    await node2.killAgent();
    const gone = await watch.until(address, false, killedAt);
    await node2.startAgent();
    await watch.until(address, true, gone.at);
    return { "on the other": (gone.at - killedAt) / 1000 };
  } finally {
    if (!node2.agentRuns()) await node2.startAgent();
    await watch.stop();
  }
}

async function portsArePublished(node: LabNode): Promise<Sample> {
  const range = `${FIRST_PORT}-${FIRST_PORT + PORTS - 1}`;
  const ports = ["-p", `${range}:${range}`, "-p", `${range}:${range}/udp`];
  const name = "ports";
  const began = performance.now();
  await node.ctl(
    "service",
    "create",
    "--name",
    name,
    "--replicas",
    "0",
    "--network",
    NETWORK,
    ...ports,
    "--",
    "sleep",
    "infinity",
  );
  const seconds = (performance.now() - began) / 1000;
  await node.ctl("service", "rm", name);
  return { "in force on both nodes": seconds };
}

function linkExperiment(node: LabNode): Experiment {
  const metrics = [{ id: "after its start", unit: "s", digits: 3, limit: LIMITS.linkIsThere }];
  let stop = async (): Promise<void> => {};
  return {
    ...alone("a container with a label has its link", metrics, () => containerHasLink(node)),
    before: async () => {
      stop = await startEngine();
      await makeBaseImage();
    },
    after: () => stop(),
  };
}

async function containerHasLink(node: LabNode): Promise<Sample> {
  const look = `const { networkInterfaces: n } = require("os"); const look = () => n().eth0 ? console.log(Date.now()) : setTimeout(look, 2);
    look(); setInterval(() => {}, 1e6)`;
  const labels = ["--label", `overlayd.network=${NETWORK}`, "--label", `overlayd.node=${node.name}`];
  const command = [BASE_IMAGE, "node", "-e", look];
  const id = (await run(["docker", "run", "-d", "--network", "none", "--init", ...labels, ...command])).trim();
  try {
    const linkedAt = await waitFor(async () => Number(await run(["docker", "logs", id])) || undefined, {
      what: "the container to have its link",
    });
    const startedAt = await run(["docker", "inspect", "--format", "{{.State.StartedAt}}", id]);
    return { "after its start": (linkedAt - Date.parse(startedAt.trim())) / 1000 };
  } finally {
    await run(["docker", "rm", "-f", id]);
  }
}

async function transferGoesOn({ vip }: Overlay, killed: readonly LabNode[]): Promise<Sample> {
  const options = ["-t", `${TRANSFER_SECONDS}`, "-i", `${INTERVAL_SECONDS}`, "-J"];
  const transfer = vip.from.exec(["iperf3", "-c", vip.address, "-p", `${TCP_PORT}`, ...options]);
  await delay(KILLED_AFTER_MS);
  await Promise.all(killed.map((node) => node.killAgent()));
  await Promise.all(killed.map((node) => node.startAgent()));
  const { intervals } = JSON.parse(await transfer) as { intervals: { sum: { bytes: number; seconds: number } }[] };
  let stalled = 0;
  let longest = 0;
  for (const { sum } of intervals) {
    stalled = sum.bytes === 0 ? stalled + sum.seconds : 0;
    longest = Math.max(longest, stalled);
  }
  return { "nothing arrives for": longest };
}
