// Published ports as a person reads them: those that belong to a task, and nodes that leave one to a process.
import type { HeldPort, PublishedPort, Service, Task } from "../cluster/schema.ts";
import type { State } from "../cluster/tables.ts";
import { byName } from "./by-name.ts";

/** The published ports that the task's node answers for this task alone. */
export function hostPorts(state: State, { serviceId, nodeId, desired }: Task): PublishedPort[] {
  if (desired !== "running" || state.nodes.get(nodeId ?? "")?.mesh === false) return [];
  return state.services.get(serviceId)?.ports.filter(({ mode }) => mode === "host") ?? [];
}

/** What the nodes report of ports and addresses, collected once for the many services of one answer. */
export class NodePorts {
  readonly #state: State;
  readonly #addresses = new Set<string>();
  /** PORT/PROTOCOL to the nodes where a process holds it, in the order of their names. */
  readonly #held = new Map<string, { node: string; port: HeldPort }[]>();
  readonly #withoutMesh: { id: string; name: string; addresses: readonly string[] }[] = [];
  /** Whether every node has reported its addresses. */
  #areAddressesKnown = true;

  constructor(state: State) {
    this.#state = state;
    // Loops over all nodes: once an answer.
    for (const node of byName([...state.nodes.values()])) {
      if (node.addresses.length === 0) this.#areAddressesKnown = false;
      for (const address of node.addresses) this.#addresses.add(address);
      if (!node.mesh) this.#withoutMesh.push(node);
      else for (const port of node.heldPorts) this.#hold(node.name, port);
    }
  }

  /** A line for each port of the service that some node does not answer, with the reason. */
  warnings({ id, ports }: Service): string[] {
    if (ports.length === 0) return [];
    return [...this.#addressWarnings(ports), ...this.#heldWarnings(ports), ...this.#meshWarnings(id, ports)];
  }

  #hold(node: string, port: HeldPort): void {
    const key = keyOf(port.port, port.protocol);
    const held = this.#held.get(key);
    if (held === undefined) this.#held.set(key, [{ node, port }]);
    else held.push({ node, port });
  }

  /** Lines for ports on addresses that no node has, once all nodes have reported theirs. Loopback is every node's. */
  #addressWarnings(ports: readonly PublishedPort[]): string[] {
    if (!this.#areAddressesKnown) return [];
    return ports
      .filter(({ address }) => address !== null && !this.#addresses.has(address) && !address.startsWith("127."))
      .map(({ published, protocol, address }) => {
        return `no node answers ${address}:${published}/${protocol}: none of them has that address ('ip -4 address' shows those of one)`;
      });
  }

  #heldWarnings(ports: readonly PublishedPort[]): string[] {
    const found = ports.flatMap((port) => {
      const held = this.#held.get(keyOf(port.published, port.protocol)) ?? [];
      return held.filter((one) => covers(port, one.port));
    });
    return byName([...new Set(found)].map(({ node, port }) => ({ name: node, port }))).map(({ name, port: held }) => {
      const where = held.address === "0.0.0.0" ? "" : ` at ${held.address}`;
      const command = `ss -lnp${held.protocol === "tcp" ? "t" : "u"} sport = :${held.port}`;
      return `${name} does not answer ${held.port}/${held.protocol}${where}: a process of its own listens there ('${command}' shows which)`;
    });
  }

  #meshWarnings(serviceId: string, ports: readonly PublishedPort[]): string[] {
    if (this.#withoutMesh.length === 0) return [];
    const hosts = new Set(this.#state.tasks.by("service", serviceId).map(({ nodeId }) => nodeId));
    return this.#withoutMesh.flatMap((node) => {
      const unanswered = ports.filter(
        ({ mode, address }) =>
          (mode === "ingress" || hosts.has(node.id)) && (address === null || node.addresses.includes(address)),
      );
      const list = [...new Set(unanswered.map(({ published, protocol }) => keyOf(published, protocol)))].join(", ");
      return list === "" ? [] : [`${node.name} does not answer ${list}: its configuration says 'mesh: off'`];
    });
  }
}

function keyOf(port: number, protocol: string): string {
  return `${port}/${protocol}`;
}

function covers({ address }: PublishedPort, held: HeldPort): boolean {
  return address === null || held.address === "0.0.0.0" || address === held.address;
}
