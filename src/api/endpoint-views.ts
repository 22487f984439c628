// Everything that has an address on a network, as the API answers it: tasks, sandboxes of `overlayctl run`, attached
// containers, hosts behind VTEPs that are no nodes.
import type { Task, TaskStatus } from "../cluster/schema.ts";
import type { State } from "../cluster/tables.ts";
import { byTexts } from "./by-name.ts";
import type { EndpointView } from "./schema.ts";

/** The endpoints of all nodes, by network and address. Loops over all tasks and endpoints: once a listing. */
export function endpointViews(state: State): EndpointView[] {
  const views: EndpointView[] = [];
  for (const task of state.tasks.values()) {
    for (const [networkId, address] of Object.entries(task.addresses))
      views.push(taskView(state, task, networkId, address));
  }
  for (const { id, name, nodeId, networkId, address, attachment, external } of state.endpoints.values()) {
    views.push({
      id,
      name: name ?? attachment?.name ?? null,
      kind: external !== null ? "external" : attachment === null ? "run" : "attached",
      image: attachment?.image ?? null,
      ...placeOf(state, nodeId, networkId, address),
      vtep: external === null ? null : `${external.vtep}:${external.port}`,
      mac: external?.mac ?? null,
      service: null,
      ...seenOf(state.statuses.get(id)),
    });
  }
  return byTexts(views, ({ network, address }) => [network ?? "", address ?? ""]);
}

function taskView(state: State, task: Task, networkId: string, address: string): EndpointView {
  const { id, serviceId, slot, attachment, nodeId } = task;
  const service = state.services.get(serviceId);
  const workload = service?.workload;
  return {
    id,
    name: attachment?.name ?? `${service?.name ?? serviceId}.${slot}`,
    kind: attachment === null ? "task" : "attached",
    image: attachment?.image ?? (workload?.runtime === "docker" ? workload.image : null),
    ...placeOf(state, nodeId, networkId, address),
    vtep: null,
    mac: null,
    service: service?.name ?? serviceId,
    ...seenOf(state.statuses.get(id)),
  };
}

function placeOf({ networks, nodes }: State, nodeId: string | null, networkId: string, address: string) {
  const node = nodeId === null ? null : (nodes.get(nodeId)?.name ?? nodeId);
  return { network: networks.get(networkId)?.name ?? networkId, address, node };
}

function seenOf(status: TaskStatus | undefined) {
  return { state: status?.state ?? null, error: status?.error ?? null };
}
