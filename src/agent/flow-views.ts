// The data path's flows in a person's words: services, tasks and nodes by their names.
import type { FlowFilter, FlowView } from "../api/schema.ts";
import { get } from "../api/views.ts";
import type { Task } from "../cluster/schema.ts";
import type { State } from "../cluster/tables.ts";
import type { FlowRow } from "../datapath/flow-report.ts";
import { UserError } from "../lib/errors.ts";
import { parseIpv4 } from "../lib/ip.ts";

/** `nodeName` is the node with these flows. Throws UserError 404 for a service or endpoint that there is not. */
export function flowViews(state: State, nodeName: string, flows: readonly FlowRow[], filter: FlowFilter): FlowView[] {
  const nodesByAddress = new Map([...state.nodes.values()].map((node) => [node.address, node.name]));
  const servicesByVip = new Map<string, string>();
  for (const { name, vips, meshVip, hostVip } of state.services.values()) {
    for (const vip of [...Object.values(vips), meshVip, hostVip]) if (vip !== null) servicesByVip.set(vip, name);
  }
  const tasksByAddress = new Map<string, Task>();
  for (const task of state.tasks.values()) {
    for (const address of Object.values(task.addresses)) tasksByAddress.set(address, task);
  }
  const wanted = filter.endpoint === undefined ? undefined : addressesOf(state, filter.endpoint);
  const wantedService = filter.service === undefined ? undefined : get(state, "services", filter.service).name;
  const views: FlowView[] = [];
  for (const flow of flows) {
    const sides = [flow.client, flow.destination, flow.server].map(addressIn);
    if (wanted !== undefined && !sides.some((address) => wanted.has(address))) continue;
    const task = tasksByAddress.get(addressIn(flow.server));
    const ofTask = task === undefined ? undefined : (state.services.get(task.serviceId)?.name ?? task.serviceId);
    const service = (flow.vip === null ? ofTask : servicesByVip.get(flow.vip)) ?? null;
    if (wantedService !== undefined && service !== wantedService) continue;
    views.push({
      protocol: String(flow.protocol),
      client: flow.client,
      destination: flow.destination,
      target: flow.server,
      service,
      task: task === undefined ? null : `${ofTask}.${task.slot}`,
      node: flow.serverVtep === null ? nodeName : (nodesByAddress.get(flow.serverVtep) ?? flow.serverVtep),
      state: flow.state,
      lane: flow.lane,
      ageMs: flow.ageSeconds * 1000,
      packets: flow.packets,
      bytes: flow.bytes,
    });
    if (views.length === filter.limit) break;
  }
  return views;
}

/** The name of an address: a task as SERVICE.SLOT, or a named endpoint. */
function addressesOf(state: State, word: string): ReadonlySet<string> {
  if (parseIpv4(word) !== undefined) return new Set([word]);
  const tasks = [...state.tasks.values()].filter(
    ({ serviceId, slot, attachment }) =>
      `${state.services.get(serviceId)?.name}.${slot}` === word || attachment?.name === word,
  );
  const endpoints = [...state.endpoints.values()].filter(
    ({ name, attachment }) => name === word || attachment?.name === word,
  );
  const addresses = [
    ...tasks.flatMap((task) => Object.values(task.addresses)),
    ...endpoints.map(({ address }) => address),
  ];
  if (addresses.length === 0) {
    throw new UserError(404, `no such endpoint: ${word}; 'overlayctl endpoint ls' lists them`, { field: "endpoint" });
  }
  return new Set(addresses);
}

/** ADDRESS:PORT, or ADDRESS alone. */
function addressIn(side: string): string {
  return side.replace(/:.*/, "");
}
