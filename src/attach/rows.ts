// What the state says of containers and namespaces that were attached: endpoints and tasks, in one form.
import type { Attachment, Service, State } from "../cluster/schema.ts";

export interface AttachedRow {
  /** Of the endpoint or task. */
  id: string;
  nodeId: string;
  attachment: Attachment;
  /** In the order of its links. */
  links: { networkId: string; address: string }[];
  /** Of a task. */
  service: Service | undefined;
  createdAt: number;
}

/** Of one node, or of all. */
export function attachedRows(state: State, nodeId?: string): AttachedRow[] {
  const rows: AttachedRow[] = [];
  for (const { id, nodeId: at, attachment, addresses, serviceId, createdAt } of state.tasks.values()) {
    if (attachment === null || at === null) continue;
    const service = state.services.get(serviceId);
    const networks = service?.networks ?? Object.keys(addresses);
    const links = networks.flatMap((networkId) => {
      const address = addresses[networkId];
      return address === undefined ? [] : [{ networkId, address }];
    });
    rows.push({ id, nodeId: at, attachment, links, service, createdAt });
  }
  for (const { id, nodeId: at, attachment, networkId, address, createdAt } of state.endpoints.values()) {
    if (attachment === null || at === null) continue;
    rows.push({ id, nodeId: at, attachment, links: [{ networkId, address }], service: undefined, createdAt });
  }
  return rows.filter((row) => nodeId === undefined || row.nodeId === nodeId);
}

export const NETNS = "netns:";

/** The network namespace's name, of a subject that is one. */
export function namespaceOf(subject: string): string | undefined {
  return subject.startsWith(NETNS) ? subject.slice(NETNS.length) : undefined;
}
