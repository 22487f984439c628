// What the tests of several managers share.
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import type { ExecutionContext } from "ava";
import type { ClusterStatusView } from "../../src/api/cluster-schema.ts";
import { run, waitFor } from "./command.ts";
import type { LabNode } from "./lab.ts";

const AGENT_LINES = 30;
const ETCD_LINES = 12;

export async function statusOf(node: LabNode): Promise<ClusterStatusView> {
  return node.ctlJson<ClusterStatusView>("cluster", "status");
}

/** Resolves when the managers share etcd and all of them are well. Throws with what is missing, and the ends of the logs. */
export async function untilWhole(nodes: readonly LabNode[], managers = nodes.length): Promise<ClusterStatusView> {
  const missing = new Map<string, string>();
  return waitFor(
    async () => {
      missing.clear();
      for (const node of nodes.filter((one) => one.agentRuns())) {
        try {
          const status = await statusOf(node);
          const lacks = whatLacks(status, managers);
          if (lacks === undefined) return status;
          missing.set(node.name, lacks);
        } catch (error) {
          missing.set(node.name, (error as Error).message);
        }
      }
      return undefined;
    },
    { what: "all managers to be members of etcd" },
  ).catch((cause: Error) => {
    const seen = nodes.map((node) => `${node.name} says: ${missing.get(node.name) ?? "no agent"}\n${logsOf(node)}`);
    throw new Error(`${cause.message}\n${seen.join("\n")}`, { cause });
  });
}

/** What of the status is not as it is with so many managers that are all well; undefined: nothing. */
function whatLacks(status: ClusterStatusView, count: number): string | undefined {
  const { store, leader, managers, warnings } = status;
  const areWell = managers.every(
    ({ etcd, problem }) => etcd?.process === "running" && !etcd.learner && problem === null,
  );
  if (store === "etcd" && leader !== null && managers.length === count && areWell) return undefined;
  return JSON.stringify({ store, leader, managers, warnings });
}

/** The ends of what its agent and its etcd print. */
function logsOf(node: LabNode): string {
  const etcd = tailOf(join(node.directory, "data/etcd/process/log"), ETCD_LINES) ?? "it has no etcd";
  return `${node.logTail(AGENT_LINES)}\n--- its etcd:\n${etcd}`;
}

function tailOf(path: string, lines: number): string | undefined {
  if (!existsSync(path)) return undefined;
  return readFileSync(path, "utf8").trimEnd().split("\n").slice(-lines).join("\n");
}

interface MemberOfEtcd {
  id: string;
  /** Empty until it has begun. */
  name: string;
  votes: boolean;
}

/** The members of etcd, as the manager's own one lists them; their names are the ids of their nodes. */
export async function membersOfEtcd(node: LabNode): Promise<MemberOfEtcd[]> {
  const { members } = await askEtcd<{ members: { ID: string; name?: string; isLearner?: boolean }[] }>(
    node,
    "cluster/member/list",
  );
  return members.map(({ ID, name = "", isLearner = false }) => ({ id: ID, name, votes: !isLearner }));
}

/** Whether the manager's own member leads etcd. */
export async function leadsEtcd(node: LabNode): Promise<boolean> {
  const { header, leader } = await askEtcd<{ header: { member_id: string }; leader?: string }>(
    node,
    "maintenance/status",
  );
  return leader === header.member_id;
}

async function askEtcd<Answer>(node: LabNode, path: string): Promise<Answer> {
  const file = (name: string) => join(node.directory, "data/etcd", name);
  const tls = ["--cacert", file("ca.crt"), "--cert", file("member.crt"), "--key", file("member.key")];
  const url = `https://127.0.0.1:2378/v3/${path}`;
  return JSON.parse(await node.exec(["curl", "-sS", ...tls, "-d", "{}", url])) as Answer;
}

/** Writes on one of the nodes until that succeeds, and returns on which. */
export async function untilWritten(nodes: readonly LabNode[], network: string): Promise<void> {
  await waitFor(
    async () => {
      for (const node of nodes) {
        const { status, stderr } = await node.tryExec(["overlayctl", "network", "create", network]);
        if (status === 0 || stderr.includes("exists")) return true;
      }
      return undefined;
    },
    { what: "a write to succeed" },
  );
}

/** Waits until the node's state has all of them. */
export async function hasNetworks(t: ExecutionContext, node: LabNode, networks: readonly string[]): Promise<void> {
  const missing = async (): Promise<string[]> => {
    const found = (await node.ctlJson<{ name: string }[]>("network", "ls")).map(({ name }) => name);
    return networks.filter((name) => !found.includes(name));
  };
  await waitFor(async () => (await missing()).length === 0, { what: `${node.name} to have ${networks.join(", ")}` });
  t.pass();
}

/** Power off: its link first, so that nobody is told; then all that runs on it. */
export async function loseMachine(node: LabNode): Promise<void> {
  await node.exec(["ip", "link", "set", "eth0", "down"]);
  const pids = (await run(["ip", "netns", "pids", node.netns])).split("\n").filter(Boolean).map(Number);
  for (const pid of pids) process.kill(pid, "SIGKILL");
}
