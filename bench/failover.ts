// The time without a leader when it is lost in three ways, and whether clients of a service notice; and how long a join takes.
// Three managers, and two workers with the service's tasks and a client in a container.
import { fileURLToPath } from "node:url";
import { waitFor } from "../test/system/command.ts";
import { createLab, type Lab, type LabNode } from "../test/system/lab.ts";
import { vipOf } from "../test/system/listings.ts";
import { loseMachine, untilWhole } from "../test/system/managers.ts";
import { Background } from "./background.ts";
import type { Experiment, Limit, Sample } from "./experiment.ts";
import { LIMITS } from "./limits.ts";
import type { BenchOptions } from "./options.ts";
import { startService } from "./overlay.ts";
import type { Teardown } from "./set-up.ts";

const PREFIX = "benchfail";
const MANAGERS = 3;
const NODES = MANAGERS + 2 + 1;
const NETWORK = "bench";
const PORT = 9200;
const TRY_MS = 50;
const WRITE_MS = 60_000;
const ROUNDS = 5;
const ASK_HTTP = fileURLToPath(new URL("./ask-http.js", import.meta.url));
const SERVER = fileURLToPath(new URL("../../configs/search-server.js", import.meta.url));

interface Loss {
  title: string;
  limit: Limit;
  /** Takes the leader away. */
  lose(leader: LabNode): Promise<void>;
}

const LOSSES: readonly Loss[] = [
  {
    title: "the leader's agent is killed, its etcd lives",
    limit: LIMITS.leaderKilled,
    lose: (leader) => leader.killAgent(),
  },
  { title: "the leader's machine is gone", limit: LIMITS.leaderGone, lose: loseMachine },
  { title: "the leader is stopped by SIGTERM", limit: LIMITS.leaderStopped, lose: (leader) => leader.stopAgent() },
];

export async function* failoverExperiments({ quick }: BenchOptions, teardown: Teardown): AsyncGenerator<Experiment> {
  const lab = await createLab({ prefix: PREFIX, nodes: NODES, managers: MANAGERS, waiting: 1 });
  teardown.push(() => lab.teardown());
  await lab.startAgents();
  const [worker1, worker2, machine] = lab.nodes.slice(MANAGERS) as [LabNode, LabNode, LabNode];
  const managers = lab.nodes.slice(0, MANAGERS);
  const [first] = managers as [LabNode];
  await untilWhole(managers);
  await first.ctl("network", "create", NETWORK);
  const client = await startService(first, { name: "source", on: worker1, command: ["sleep", "infinity"] });
  const command = [process.execPath, SERVER, `${PORT}`];
  await startService(first, { name: "target", on: worker2, command, publish: `${PORT}:${PORT}` });
  const vip = await vipOf(first, "target");
  const rounds = quick ? 1 : ROUNDS;
  for (const { title, limit, lose } of LOSSES) {
    const measure = async (): Promise<Sample> => {
      const leader = await leaderOf(managers);
      const others = managers.filter((node) => node !== leader);
      const asking = [
        await Background.start(client, [process.execPath, ASK_HTTP, `http://${vip}:${PORT}/`], /asking/),
        await Background.start(
          lab.client,
          [process.execPath, ASK_HTTP, `http://${worker1.address}:${PORT}/`],
          /asking/,
        ),
      ];
      const seconds = await longestWithoutWrite(others, () => lose(leader));
      const counts = await Promise.all(asking.map(countsOf));
      await bringBack(leader);
      await untilWhole(managers);
      const sum = (key: "requests" | "failed"): number => counts.reduce((total, count) => total + count[key], 0);
      return { "until a write succeeds": seconds, "requests failed": sum("failed"), requests: sum("requests") };
    };
    yield {
      group: "managers",
      title,
      metrics: [
        { id: "until a write succeeds", unit: "s", digits: 2, limit },
        { id: "requests failed", unit: "through VIP and mesh", digits: 0, limit: LIMITS.requestsFailed },
        { id: "requests", unit: "through VIP and mesh", digits: 0 },
      ],
      contenders: [{ name: "overlayd", measure }],
      rounds,
    };
  }
  yield joinExperiment(lab, managers, machine, rounds);
}

function joinExperiment(lab: Lab, managers: readonly LabNode[], machine: LabNode, rounds: number): Experiment {
  const measure = async (): Promise<Sample> => {
    const leader = await leaderOf(managers);
    const { token } = await leader.api.joinToken("worker");
    const began = performance.now();
    await machine.ctl("join", leader.address, "--token", token);
    const seconds = (performance.now() - began) / 1000;
    await machine.ctl("leave", "--force");
    await waitFor(async () => (await machine.api.status()).phase === "waiting", { what: `${machine.name} to wait` });
    await leader.ctl("node", "rm", "--force", machine.name);
    return { "from the command to ready": seconds };
  };
  return {
    group: "managers",
    title: `a node joins a cluster of ${lab.nodes.length - 1}`,
    metrics: [{ id: "from the command to ready", unit: "s", digits: 2, limit: LIMITS.join }],
    contenders: [{ name: "overlayd", measure }],
    rounds,
  };
}

async function bringBack(node: LabNode): Promise<void> {
  await waitFor(() => !node.agentRuns(), { what: `${node.name}'s agent to have ended` });
  await node.exec(["ip", "link", "set", "eth0", "up"]);
  await node.startAgent();
}

async function countsOf(asking: Background): Promise<{ requests: number; failed: number }> {
  const lines = (await asking.interrupt("SIGTERM")).trim().split("\n");
  return JSON.parse(lines.at(-1)!) as { requests: number; failed: number };
}

let writes = 0;

/**
 * The longest time without a write that succeeded, in seconds, from the beginning of `lose` until one has that began after its
 * end. Each of the nodes is asked to write again and again.
 */
async function longestWithoutWrite(nodes: readonly LabNode[], lose: () => Promise<void>): Promise<number> {
  const end = performance.now() + WRITE_MS;
  let [last, longestMs] = [performance.now(), 0];
  let [isLost, isOver] = [false, false];
  const write = async (node: LabNode): Promise<void> => {
    while (!isOver && performance.now() < end) {
      const isAfter = isLost;
      if (await isWritten(node)) {
        const now = performance.now();
        longestMs = Math.max(longestMs, now - last);
        last = now;
        isOver ||= isAfter;
      }
      await new Promise((resolve) => setTimeout(resolve, TRY_MS));
    }
  };
  const lost = lose().then(() => {
    isLost = true;
  });
  await Promise.all([lost, ...nodes.map(write)]);
  if (!isOver) throw new Error(`no write succeeded within ${WRITE_MS} ms`);
  return longestMs / 1000;
}

async function isWritten({ api }: LabNode): Promise<boolean> {
  const workload = { runtime: "process" as const, command: ["true"] };
  const body = { name: `w${++writes}`, workload, replicas: 0, endpointMode: "dnsrr" as const, networks: [NETWORK] };
  return api.createService(body).then(
    () => true,
    () => false,
  );
}

async function leaderOf(managers: readonly LabNode[]): Promise<LabNode> {
  const { leader } = await untilWhole(managers);
  return managers.find(({ name }) => name === leader)!;
}
