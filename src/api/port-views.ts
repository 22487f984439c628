// Published ports as a person reads them: those that belong to a task, and nodes that leave one to a process.
import type { HeldPort, Node, PublishedPort, Service, State, Task } from "../cluster/schema.ts";

/** The ports that the task's node answers for it alone. */
export function hostPorts(state: State, { serviceId, nodeId, desired }: Task): PublishedPort[] {
  if (desired !== "running" || state.nodes.get(nodeId ?? "")?.mesh === false) return [];
  return state.services.get(serviceId)?.ports.filter(({ mode }) => mode === "host") ?? [];
}

/** Which nodes do not answer which port, and what shows why. */
export function portWarnings(state: State, { id, ports }: Service): string[] {
  const nodes = [...state.nodes.values()].toSorted((a, b) => a.name.localeCompare(b.name, "en", { numeric: true }));
  const hosts = new Set([...state.tasks.values()].filter(({ serviceId }) => serviceId === id).map((t) => t.nodeId));
  const elsewhere = nodes.flatMap((node) => {
    if (node.mesh) return heldWarnings(node, ports);
    const unanswered = ports.filter(
      ({ mode, address }) =>
        (mode === "ingress" || hosts.has(node.id)) && (address === null || node.addresses.includes(address)),
    );
    const list = [...new Set(unanswered.map(({ published, protocol }) => `${published}/${protocol}`))].join(", ");
    return list === "" ? [] : [`${node.name} does not answer ${list}: its configuration says 'mesh: off'`];
  });
  return [...addressWarnings(nodes, ports), ...elsewhere];
}

/** Ports on addresses that no node has said to have, once all have said. Loopback is every node's. */
function addressWarnings(nodes: readonly Node[], ports: readonly PublishedPort[]): string[] {
  if (nodes.some(({ addresses }) => addresses.length === 0)) return [];
  const known = new Set(nodes.flatMap(({ addresses }) => addresses));
  return ports
    .filter(({ address }) => address !== null && !known.has(address) && !address.startsWith("127."))
    .map(({ published, protocol, address }) => {
      return `nobody answers ${address}:${published}/${protocol}: no node has that address ('ip -4 address' shows those of one)`;
    });
}

function heldWarnings({ name, heldPorts }: Node, ports: readonly PublishedPort[]): string[] {
  return heldPorts
    .filter((held) => ports.some((port) => covers(port, held)))
    .map(({ port, protocol, address }) => {
      const where = address === "0.0.0.0" ? "" : ` at ${address}`;
      const command = `ss -lnp${protocol === "tcp" ? "t" : "u"} sport = :${port}`;
      return `${name} does not answer ${port}/${protocol}${where}: a process of its own listens there ('${command}' shows which)`;
    });
}

function covers({ published, protocol, address }: PublishedPort, held: HeldPort): boolean {
  if (published !== held.port || protocol !== held.protocol) return false;
  return address === null || held.address === "0.0.0.0" || address === held.address;
}
