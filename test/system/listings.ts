// What overlayctl's listings say, read by tests and the demo.

import { readFileSync } from "node:fs";
import { availableParallelism } from "node:os";
import type { NetworkView, NodeView, ServiceView, TaskView } from "../../src/api/schema.ts";
import { run, waitFor } from "./command.ts";
import type { LabNode } from "./lab.ts";

/**
 * How far a task's share may be off. Each worker of a data path takes the tasks in turn, so it is at most one for each
 * of them; there are as many as processors, up to four.
 */
export const MAX_SKEW = Math.min(availableParallelism(), 4);

/** The tasks that run and are to run. */
export async function runningTasks(node: LabNode, service: string): Promise<TaskView[]> {
  const tasks = await node.ctlJson<TaskView[]>("service", "ps", service);
  return tasks.filter(({ state, desired, nodeReady }) => state === "running" && desired === "running" && nodeReady);
}

/** Waits until a service has `count` running tasks and no others. */
export function untilRunning(node: LabNode, service: string, count: number): Promise<TaskView[]> {
  return waitFor(
    async () => {
      const tasks = await runningTasks(node, service);
      return tasks.length === count && tasks;
    },
    { what: `${count} running tasks of ${service}` },
  );
}

export async function serviceOf(node: LabNode, name: string): Promise<ServiceView> {
  const services = await node.ctlJson<ServiceView[]>("service", "ls");
  const found = services.find((service) => service.name === name);
  if (found === undefined) throw new Error(`no service ${name} among ${JSON.stringify(services)}`);
  return found;
}

export async function networkOf(node: LabNode, name: string): Promise<NetworkView> {
  const [network] = await node.ctlJson<NetworkView[]>("network", "inspect", name);
  return network!;
}

/** The service's virtual IP on its first network. */
export async function vipOf(node: LabNode, service: string): Promise<string | null> {
  return (await serviceOf(node, service)).networks[0]?.vip ?? null;
}

export async function nodeView(node: LabNode): Promise<NodeView> {
  const nodes = await node.ctlJson<NodeView[]>("node", "ls");
  return nodes.find(({ name }) => name === node.name)!;
}

/** The address of a task on its first network. */
export function addressOf(task: TaskView): string {
  return task.addresses[0]!.address;
}

/** The namespace that a task runs in. */
export function namespaceOf(task: TaskView): string {
  return `ovl-${task.node}-${task.id.slice(0, 8)}`;
}

/** The process that a task's command became, in the machine's numbers. */
export async function processOf(task: TaskView): Promise<number> {
  const pids = (await run(["ip", "netns", "pids", namespaceOf(task)])).split("\n").filter(Boolean);
  const found = pids.find((pid) => readFileSync(`/proc/${pid}/cmdline`, "utf8").startsWith(`${task.command[0]}\0`));
  if (found === undefined) throw new Error(`${task.name} has no process`);
  return Number(found);
}
