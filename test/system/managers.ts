// What the tests of several managers share.
import type { ExecutionContext } from "ava";
import type { ClusterStatusView } from "../../src/api/cluster-schema.ts";
import { run, waitFor } from "./command.ts";
import type { LabNode } from "./lab.ts";

export async function statusOf(node: LabNode): Promise<ClusterStatusView> {
  return node.ctlJson<ClusterStatusView>("cluster", "status");
}

/** Resolves when the managers share etcd and all of them are well. */
export async function untilWhole(nodes: readonly LabNode[], managers = nodes.length): Promise<ClusterStatusView> {
  return waitFor(
    async () => {
      for (const node of nodes.filter((one) => one.agentRuns())) {
        const status = await statusOf(node).catch(() => undefined);
        const isWhole =
          status?.store === "etcd" &&
          status.leader !== null &&
          status.managers.length === managers &&
          status.managers.every(
            ({ etcd, problem }) => etcd?.process === "running" && !etcd.learner && problem === null,
          );
        if (isWhole) return status;
      }
      return undefined;
    },
    { what: "all managers to be members of etcd" },
  );
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
