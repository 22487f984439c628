// What a container of this node is called and where it looks for names: from its options, the overlay and the node.

import { type Resolver, withNdots } from "../lib/resolv-conf.ts";
import { type Dns, fillIn, HOST_GATEWAY, type Naming } from "./naming.ts";
import type { Network, Node, Service, Task } from "./schema.ts";

/** What a container is called and where it looks for names, as its /etc says it. */
export interface ContainerNaming {
  /** The hostname; null: the one that the runtime gives. */
  readonly hostname: string | null;
  readonly hosts: readonly { readonly name: string; readonly address: string }[];
  readonly resolver: Resolver;
}

/** What is the same for all containers of the node. */
export interface NodeNaming {
  /** The domain under which every name of the overlay is found. */
  readonly domain: string;
  /** The node's own resolv.conf. */
  readonly resolver: Resolver;
}

const NO_DNS: Dns = { servers: [], search: null, options: null };

/** `networks`: the container's, the one with its default route first. */
export function containerNaming(
  naming: Naming | undefined,
  hostname: string | null,
  networks: readonly Network[],
  node: NodeNaming,
): ContainerNaming {
  const { hosts = [], dns = NO_DNS } = naming ?? {};
  const gateway = networks[0]?.gateway;
  return {
    hostname,
    hosts: hosts.flatMap(({ name, address }) => {
      const isGateway = address === HOST_GATEWAY;
      return isGateway && gateway === undefined ? [] : [{ name, address: isGateway ? gateway! : address }];
    }),
    resolver: {
      nameservers: gateway === undefined ? [] : [gateway],
      search: dns.search?.length === 0 ? [] : searchOf(networks, node.domain, dns.search ?? node.resolver.search),
      options: withNdots(dns.options ?? node.resolver.options),
    },
  };
}

/** The overlay's own domains go before others: a service is found by its name whatever `ndots` says. */
export function searchOf(networks: readonly Network[], domain: string, others: readonly string[]): string[] {
  return [...new Set([...networks.map(({ name }) => `${name}.${domain}`.toLowerCase()), ...others])];
}

/** The hostname of a task; null: the one that its runtime gives. */
export function hostnameOf(service: Service, task: Task, node: Node | undefined): string | null {
  const hostname = service.workload?.naming?.hostname ?? null;
  if (hostname === null) return null;
  return fillIn(hostname, {
    "Node.Hostname": node?.name ?? "",
    "Node.ID": node?.id ?? "",
    "Service.Name": service.name,
    "Service.ID": service.id,
    "Task.Name": `${service.name}.${task.slot}.${task.id}`,
    "Task.ID": task.id,
    "Task.Slot": String(task.slot),
  });
}
