// The cluster's state as the tasks of one node need it.
import { containerNaming, hostnameOf, type NodeNaming } from "../cluster/container-naming.ts";
import type { State } from "../cluster/tables.ts";
import type { DesiredTask } from "../runtime/supervisor.ts";
import { networksOf } from "./compile-links.ts";

/** The tasks that the node is to run or to stop. Attached containers are not its own to run. */
export function compileTasks(state: State, nodeId: string, naming: NodeNaming): DesiredTask[] {
  const tasks: DesiredTask[] = [];
  for (const task of state.tasks.by("node", nodeId)) {
    if (task.attachment !== null) continue;
    const service = state.services.get(task.serviceId);
    const order = networksOf(state, task);
    const networks = order.flatMap((id) => state.networks.get(id) ?? []);
    const hostname = service === undefined ? null : hostnameOf(service, task, state.nodes.get(nodeId));
    tasks.push({
      id: task.id,
      name: `${service?.name ?? "?"}.${task.slot}`,
      // When its service was removed, the task is only to be stopped.
      workload: service?.workload ?? null,
      address: task.addresses[order[0] ?? ""] ?? null,
      naming: containerNaming(service?.workload?.naming, hostname, networks, naming),
      ports: service?.ports.filter(({ protocol }) => protocol === "tcp").map(({ target }) => target) ?? [],
      desired: service === undefined ? "shutdown" : task.desired,
    });
  }
  return tasks;
}
