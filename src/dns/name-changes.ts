// What a change of the state touches, as keys: names in lower case relative to their network, addresses as text, ids of
// services, subjects of attachments. What was looked up under other keys still holds.
import { isDeepStrictEqual } from "node:util";
import { endpointNames, hostNamesOf } from "../cluster/host-names.ts";
import type { Endpoint, Kind, RowOf, Service, Task } from "../cluster/schema.ts";
import type { AppliedChange } from "../cluster/state.ts";
import type { State } from "../cluster/tables.ts";
import { namesOfAlias } from "./name-entries.ts";

/** The part of each row that names depend on; undefined: nothing of it. */
const RELEVANT: { readonly [K in Kind]: (row: RowOf<K>) => unknown } = {
  nodes: ({ name, address, ingressAddress, state }) => [name, address, ingressAddress, state],
  networks: ({ name, gateway, subnet }) => [name, gateway, subnet],
  services: ({ name, labels, networks, aliases, dnsTtlSeconds, vips, ports, meshVip, workload }) => [
    ...[name, labels, networks, aliases, dnsTtlSeconds, vips, ports, meshVip],
    workload?.naming?.dns.servers,
  ],
  tasks: ({ serviceId, slot, nodeId, desired, addresses, attachment }) => [
    ...[serviceId, slot, nodeId, desired, addresses, attachment],
  ],
  endpoints: ({ name, nodeId, networkId, address, attachment, dnsServers }) => [
    ...[name, nodeId, networkId, address, attachment, dnsServers],
  ],
  statuses: ({ state, nodeId }) => (state === "running" ? nodeId : undefined),
  allocations: () => undefined,
  ports: () => undefined,
  settings: ({ domain, pool }) => [domain, pool],
  trust: () => undefined,
  tokens: () => undefined,
  users: () => undefined,
};

/** Whether names depend on what the change changed. */
export function touchesNames({ kind, before, row }: AppliedChange): boolean {
  const relevant = RELEVANT[kind] as (row: unknown) => unknown;
  const [was, is] = [before, row ?? undefined].map((some) => some && relevant(some));
  return !isDeepStrictEqual(was, is);
}

/** The keys that the change touches. "all": it may touch every name. `state` is the one after the change. */
export function touchedBy(change: AppliedChange, state: State): readonly string[] | "all" {
  switch (change.kind) {
    case "nodes":
    case "networks":
    case "settings":
      return "all";
    case "services":
      return ofEach(change, ofService);
    case "tasks":
      return ofEach(change, (task) => ofTask(task, state));
    case "endpoints":
      return ofEach(change, ofEndpoint);
    case "statuses": {
      const task = state.tasks.get(change.key);
      const endpoint = state.endpoints.get(change.key);
      return [
        ...(task === undefined ? [] : ofTask(task, state)),
        ...(endpoint === undefined ? [] : ofEndpoint(endpoint)),
      ];
    }
    case "allocations":
    case "ports":
    case "trust":
    case "tokens":
    case "users":
      return [];
  }
}

function ofEach<R>({ before, row }: { before: R | undefined; row: R | null }, of: (row: R) => string[]): string[] {
  return [...(before === undefined ? [] : of(before)), ...(row === null ? [] : of(row))];
}

function ofService(service: Service): string[] {
  const addresses = [...Object.values(service.vips), ...(service.meshVip === null ? [] : [service.meshVip])];
  return [...namesOfService(service), ...addresses];
}

function namesOfService({ id, name, aliases }: Service): string[] {
  return [id, name.toLowerCase(), ...Object.values(aliases).flat().flatMap(namesOfAlias)];
}

function ofTask({ serviceId, addresses, attachment }: Task, state: State): string[] {
  const service = state.services.get(serviceId);
  const ofItsService = service === undefined ? [serviceId] : namesOfService(service);
  const ofAttachment = attachment === null ? [] : [attachment.subject, ...hostNamesOf(attachment).map(lower)];
  return [...ofItsService, ...Object.values(addresses), ...ofAttachment];
}

function ofEndpoint(endpoint: Endpoint): string[] {
  const { address, attachment } = endpoint;
  const names = endpointNames(endpoint).map(lower);
  return [address, ...names, ...(attachment === null ? [] : [attachment.subject])];
}

function lower(name: string): string {
  return name.toLowerCase();
}
